"""What a combination says of itself: README.md for people, combination.json for machines."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from tasks.data.model.folder import model_sha256
from tasks.release.export.combinable import Origin
from tasks.release.export.combine_recipe import Recipe
from tasks.release.pages.markdown import code
from tasks.release.record.lineage import library_versions
from tasks.storage.atomic import write_atomic

COMBINATION_FILE = "combination.json"


class Part(TypedDict):
    """One of the models."""

    name: str
    folder: str
    sha256: str
    weight: float


class Combination(TypedDict):
    """`combination.json`: everything that decides the result. Hashes are those of models.model_sha256."""

    how: str
    density: float | None
    seed: int | None
    base: str
    base_sha256: str
    models: list[Part]
    changed_tensors: int
    sha256: str
    versions: dict[str, str]


def write_combined_card(
    folder: Path, base: Path, origins: Sequence[Origin], recipe: Recipe, changed: int
) -> None:
    """Write both files beside the weights, which must be complete."""
    combination: Combination = {
        "how": recipe.how,
        "density": recipe.density,
        "seed": recipe.seed,
        "base": str(base),
        "base_sha256": model_sha256(base),
        "models": [
            {"name": o.name, "folder": str(o.folder), "sha256": o.sha256, "weight": weight}
            for o, weight in zip(origins, recipe.weights, strict=True)
        ],
        "changed_tensors": changed,
        "sha256": model_sha256(folder),
        "versions": library_versions(),
    }
    write_atomic(folder / COMBINATION_FILE, json.dumps(combination, indent=1, ensure_ascii=False) + "\n")
    write_atomic(folder / "README.md", _card(combination).encode("utf-8", "backslashreplace"))


def _card(c: Combination) -> str:
    settings = [f"density {c['density']:g}"] if c["density"] is not None else []
    settings += [f"seed {c['seed']}"] if c["seed"] is not None else []
    rows = [
        f"| {code(part['name'])} | {part['weight']:g} | {code(part['sha256'])} | {code(part['folder'])} |"
        for part in c["models"]
    ]
    return "\n".join(
        [
            "---",
            "library_name: transformers",
            "pipeline_tag: text-generation",
            "tags:",
            "- rootstock",
            "- merge",
            "---",
            "",
            "# A combination of tuned models",
            "",
            f"Combined by {code(c['how'])}" + "".join(f", {setting}" for setting in settings) + ".",
            f"{c['changed_tensors']:,} tensors differ from the base's. Weights are float32.",
            "Nothing was decided about this model: it has no verdict. Score it before you use it"
            " (`rootstock evaluate`).",
            "",
            "| model | weight | sha256 | folder |",
            "| --- | --: | --- | --- |",
            f"| base | | {code(c['base_sha256'])} | {code(c['base'])} |",
            *rows,
            f"| this model | | {code(c['sha256'])} | |",
            "",
        ]
    )
