"""An error handed from a child process to the one that started it: as data, with its class and exit code."""

import json
from pathlib import Path

from schemas.errors import ContractFailed, ExitCode, MachineFailed, TrainingFailed, UserError, UserErrors
from tasks.storage.atomic import write_atomic
from tasks.storage.reading import parse_json, read_stored

CLASSES = {kind.__name__: kind for kind in (UserError, ContractFailed, TrainingFailed, MachineFailed)}


def write_error(file: Path, error: UserError) -> None:
    """Leave an error for the parent; several mistakes of one file stay several."""
    kind = next((name for name in (c.__name__ for c in type(error).__mro__) if name in CLASSES), "UserError")
    told = [{"what": e.what, "where": e.where, "fix": e.fix} for e in getattr(error, "errors", [error])]
    write_atomic(
        file, json.dumps({"class": kind, "exit_code": int(error.exit_code), "errors": told}, indent=1)
    )


def read_error(file: Path) -> UserError | None:
    """The error that a child left, as it was raised there; None if it left none."""
    try:
        left = parse_json(read_stored(file))
    except FileNotFoundError:
        return None
    errors = [CLASSES[left["class"]](**told) for told in left["errors"]]
    error = errors[0] if len(errors) == 1 else UserErrors(errors)
    error.exit_code = ExitCode(left["exit_code"])
    return error
