"""Names of models and runs: parts of paths, so that only what Rootstock itself would call them is looked for."""

import os
import re
from pathlib import Path

from schemas.errors import UserError

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
RUN = re.compile(r"[a-z0-9][a-z0-9_-]{0,100}")


def require_name(name: str) -> str:
    """The name of a registered model.

    Raises:
        UserError: no model can be called so.
    """
    return _require(NAME, name, "a model", "NAME", "write the `name` of a specification that was run")


def require_run(run: str) -> str:
    """The id of a run.

    Raises:
        UserError: no run can be called so.
    """
    return _require(
        RUN, run, "a run", "RUN", "write the id that `rootstock run` printed: the folder's name under runs/"
    )


def _require(form: re.Pattern[str], given: str, what: str, where: str, fix: str) -> str:
    if form.fullmatch(given):
        return given
    shown = f"'{given}'" if len(given) <= 100 else f"a text of {len(given)} characters"
    raise UserError(f"{shown} is no name of {what}: lower case, digits, - and _", where, fix)


def require_new(target: Path, option: str = "--to", outside: Path | None = None) -> None:
    """Refuse to write over anything, or where no folder can be made; `outside` names what must not hold the target.

    Raises:
        UserError: the target exists, lies inside `outside`, or below something that is no folder.
    """
    if target.exists() or target.is_symlink():
        raise UserError(f"{target} exists already", str(target), "name a new folder")
    if outside is not None and os.path.realpath(target).startswith(os.path.realpath(outside) + os.sep):
        raise UserError(
            "a folder cannot be copied into itself", f"{option} {target}", "name a folder elsewhere"
        )
    above = next(folder for folder in target.absolute().parents if folder.exists() or folder.is_symlink())
    if not above.is_dir():
        raise UserError(
            f"{above} is no folder", f"{option} {target}", "name a folder below one that can be written"
        )
