"""Whether a run's model is still the one that was judged: a closed set of files, by name and hash.

The decision of a run is bound to the hash over the names and contents of everything in its model folder; whatever was
added, removed or changed since is refused. Only the card (README.md) is free: it is written after the verdict, people
may edit it, and nothing reads it. Of a folder that no run made there is no record: what is read of it is hashed where
it is used (see `model_folder`).
"""

from pathlib import Path
from typing import Any

from schemas.errors import UserError
from tasks.data.model.folder import CARD, model_files, model_sha256, weight_files
from tasks.storage.hashing import sha256_file
from tasks.storage.reading import parse_json, read_stored

DECISION, LINEAGE, CLOSED = "decision.json", "lineage.json", "complete.json"


def closed_sha256(folder: Path) -> str:
    """models.model_sha256 of a folder in which there is nothing else.

    Raises:
        UserError: naming what is there besides.
    """
    known = {folder / name for name in model_files(folder)} | {folder / CARD}
    folders = {parent for file in known for parent in file.parents}
    for path in sorted(folder.rglob("*")):
        if path not in known and not (path in folders and path.is_dir() and not path.is_symlink()):
            raise UserError(
                f"{path.relative_to(folder)} does not belong to this model: it was not there when it was judged",
                str(path),
                "move it out of the folder, then run the same command again",
            )
    return model_sha256(folder)


def require_judged(folder: Path, registered: str | None = None) -> None:
    """Refuse the model of a run that is not what the run's decision was made on; any other folder passes.

    `registered` is the hash that the registry or another run keeps of it, where it is used as champion.

    Raises:
        UserError: it was changed, or the record of the run is gone.
    """
    run = folder.parent
    _require_own(run)
    if registered is not None:
        bound = registered
    elif folder.name == "model" and any((run / name).exists() for name in (DECISION, LINEAGE, CLOSED)):
        bound = _bound_to(run)
    else:
        return
    if not folder.is_dir():
        fix = "restore the folder from a backup, or run its specification again: the model is put back"
        raise UserError(f"the model of {run.name} is gone", str(folder), fix)
    found = closed_sha256(folder)
    if found != bound:
        raise UserError(
            f"the model of {run.name} is not the one that was judged: its files have changed",
            f"{folder} (sha256 {found[:12]}, the decision says {bound[:12]})",
            "restore the folder from a backup, or run its specification again: the model is put back",
        )


def _require_own(run: Path) -> None:
    """Refuse a folder in a state's `runs/` whose record is that of another run.

    Raises:
        UserError: such as a copy under another name, or one of two that changed places.
    """
    if run.parent.name != "runs":
        return  # such as a backup
    try:
        told = parse_json(read_stored(run / CLOSED))["run"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    if told != run.name:
        what = f"the folder {run.name} is of another run: its record is that of {told}"
        fix = f"give it its name back, {told}, or remove it if it is a copy; `rootstock promote {run.name}` says which"
        raise UserError(what, str(run / CLOSED), fix)


def _bound_to(run: Path) -> str:
    """The hash that a run's decision (before there is one, its lineage) names.

    Raises:
        UserError: the record is damaged or gone.
    """
    closed = run / CLOSED
    file = run / (DECISION if closed.exists() or (run / DECISION).exists() else LINEAGE)
    try:
        told: Any = parse_json(read_stored(file))
        bound = told["bindings"]["weights"] if file.name == DECISION else told["weights"]
        finished_with = parse_json(read_stored(closed))["decision"] if closed.exists() else ""
        if finished_with and finished_with != sha256_file(file):
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError):
        what = f"the record of {run.name} is damaged: {file.name} does not say which model was judged"
        raise UserError(what, str(file), "restore it from a backup, or run the specification again") from None
    return str(bound)


def weights_sha256(folder: Path) -> str:
    """Return one sha256 over what decides what a model computes: weights, configuration, tokenizer.

    It is taken over (name, sha256) of these files, so neither the folder's place nor the card (README.md)
    matters; a base model is hashed by the same rule, so a run's base can be matched with the run that made it.
    Nothing else may lie in the folder.

    Raises:
        UserError: the folder is missing, holds no safetensors file, or holds what is no part of a model.
    """
    if not weight_files(folder):
        raise UserError(
            "there are no weights (*.safetensors) in this model folder",
            str(folder),
            "run the specification again; the model is trained or restored from its last checkpoint",
        )
    return closed_sha256(folder)
