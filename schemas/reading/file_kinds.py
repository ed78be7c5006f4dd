"""Which of Rootstock's files a YAML file is, told by its top-level keys: for whoever gave it to the wrong verb."""

from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel

from schemas.commands import command
from schemas.errors import UserError

FileKind = Literal["run", "comparison", "remedies", "contract"]
CALLED: dict[FileKind, tuple[str, str]] = {
    "run": ("a run specification", "run"),
    "comparison": ("a comparison of methods", "compare"),
    "remedies": ("a comparison of remedies", "compare-remedies"),
    "contract": ("a data contract", "contract lint"),
}
"""What people call it, and the verb that reads it."""
CONTRACT_KEYS = {"apiVersion", "kind", "id", "version", "status", "schema"}


def other_kind(value: Any, wanted: FileKind, file: Path) -> UserError | None:
    """What to say of a file most of whose keys are those of another kind than `wanted`; None of any other file."""
    keys = value.keys() if isinstance(value, dict) else ()
    counts = {kind: len(keys & _keys_of(kind)) if keys else 0 for kind in get_args(FileKind)}
    likely: FileKind = max(counts, key=lambda kind: counts[kind])
    if counts[likely] <= counts[wanted]:
        return None
    name, verb = CALLED[likely]
    return UserError(
        f"this is {name}, not {CALLED[wanted][0]}",
        str(file),
        f"run: {command('rootstock', *verb.split(), file)}",
    )


def _keys_of(kind: FileKind) -> set[str]:
    from schemas.results.comparison import Comparison
    from schemas.results.remedy_comparison import RemedyComparison
    from schemas.spec.run import RunSpec

    formats: dict[FileKind, type[BaseModel]] = {
        "run": RunSpec,
        "comparison": Comparison,
        "remedies": RemedyComparison,
    }
    return set(formats[kind].model_fields) if kind in formats else CONTRACT_KEYS
