"""sha256 of everything that made a model, so that its origin can be proven later."""

import hashlib
import importlib.metadata
import os
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path

from schemas.artifacts import Lineage
from schemas.errors import UserError

_LIBRARIES = (
    "rootstock", "torch", "transformers", "tokenizers", "peft", "accelerate", "safetensors", "bitsandbytes",
    "numpy", "scipy", "pandas", "pyarrow", "pydantic", "great-expectations", "prefect", "mlflow-skinny",
)  # fmt: skip
_CODE_FOLDERS = ("schemas", "data_contracts", "tasks", "flows")
_CODE_SUFFIXES = (".py", ".j2", ".yaml")
_DEPLOYED_SUFFIXES = (".safetensors", ".json", ".jinja", ".model", ".txt")
_NOT_DEPLOYED = ("manifest.json",)


def file_sha256(file: Path) -> str:
    """Return the sha256 of a file's bytes."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def weights_sha256(folder: Path) -> str:
    """Return one sha256 over what is deployed from a model folder: weights, configuration, tokenizer.

    It is taken over the sorted (relative name, sha256) pairs, so neither the folder's place nor the card
    (README.md) matters. A base model's folder is hashed by the same rule.

    Raises:
        UserError: the folder is missing or holds no safetensors file.
    """
    files = sorted(
        (file.relative_to(folder).as_posix(), file)
        for file in folder.rglob("*")
        if file.is_file() and file.suffix in _DEPLOYED_SUFFIXES and file.name not in _NOT_DEPLOYED
    )
    if not any(file.suffix == ".safetensors" for _, file in files):
        raise UserError(
            "there are no weights (*.safetensors) in this model folder",
            str(folder),
            "run the specification again; the model is trained or restored from its last checkpoint",
        )
    return _hash_of_pairs((name, file_sha256(file)) for name, file in files)


def code_sha256() -> str:
    """Return one sha256 over this project's own code: modules, templates, bundled contracts."""
    root = Path(__file__).parents[2]
    files = sorted(
        (file.relative_to(root).as_posix(), file)
        for folder in _CODE_FOLDERS
        for file in (root / folder).rglob("*")
        if file.suffix in _CODE_SUFFIXES and file.is_file()
    )
    return _hash_of_pairs((name, file_sha256(file)) for name, file in files)


def library_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries a result can depend on, as far as installed."""
    versions = {"python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def build_lineage(
    *,
    run: str,
    spec: Path,
    data: Mapping[str, str],
    contracts: Iterable[Path],
    base: str,
    base_name: str,
    model: Path,
    steps: Mapping[str, str],
) -> Lineage:
    """Collect the hashes of a finished run.

    `spec` is the run's spec.yaml, `data` maps each input file to the sha256 the reading step took of it,
    `base` is the sha256 of the base's weights, `model` the folder of the candidate, `steps` maps each step
    to the key of its folder.

    Raises:
        UserError: the model folder holds no weights.
    """
    return Lineage(
        run=run,
        spec=file_sha256(spec),
        data=dict(sorted(data.items())),
        contracts={file.name: file_sha256(file) for file in sorted(contracts)},
        code=code_sha256(),
        base=base,
        base_name=base_name,
        weights=weights_sha256(model),
        versions=library_versions(),
        steps=dict(steps),
    )


def write_lineage(file: Path, lineage: Lineage) -> None:
    """Write `lineage.json`."""
    write_text(file, lineage.model_dump_json(indent=2) + "\n")


def write_text(file: Path, text: str) -> None:
    """Write UTF-8 so that a reader sees the old file or the new one, never half of it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8", newline="\n") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(file)


def _hash_of_pairs(pairs: Iterable[tuple[str, str]]) -> str:
    digest = hashlib.sha256()
    for name, sha256 in pairs:
        digest.update(f"{name}\0{sha256}\n".encode())
    return digest.hexdigest()
