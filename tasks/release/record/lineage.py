"""sha256 of everything that made a model, so that its origin can be proven later."""

import importlib.metadata
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path

from schemas.results.artifacts import Lineage
from tasks.storage.atomic import write_atomic
from tasks.storage.code import project_version
from tasks.storage.hashing import sha256_file
from tasks.training.models.judged import weights_sha256

_LIBRARIES = (
    "rootstock", "torch", "transformers", "tokenizers", "peft", "accelerate", "safetensors", "bitsandbytes",
    "numpy", "scipy", "pandas", "pyarrow", "pydantic", "great-expectations", "prefect", "mlflow-skinny",
)  # fmt: skip


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
        spec=sha256_file(spec),
        data=dict(sorted(data.items())),
        contracts={file.name: sha256_file(file) for file in sorted(contracts)},
        code=project_version(),
        base=base,
        base_name=base_name,
        weights=weights_sha256(model),
        versions=library_versions(),
        steps=dict(steps),
    )


def write_lineage(file: Path, lineage: Lineage) -> None:
    """Write `lineage.json`."""
    write_atomic(file, lineage.model_dump_json(indent=2) + "\n")
