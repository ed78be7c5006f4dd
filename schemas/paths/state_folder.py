"""Whether a state folder can be where one is named."""

import errno
import os
import stat
from pathlib import Path

from schemas.errors import UserError


def require_state(state: Path) -> Path:
    """The state folder, which need not be there yet.

    Raises:
        UserError: it is a file, or nothing can be there, or SQLite's addresses cannot name it.
    """
    fix = "name a folder with --state, or leave it out: .rootstock"
    if "?" in str(state.absolute()):
        what = "a state folder cannot have ? in its path: SQLite would write elsewhere"
        raise UserError(
            what, _shown(state.absolute()), "name another folder with --state, or work in another"
        )
    try:
        is_folder = stat.S_ISDIR(state.stat().st_mode)
    except FileNotFoundError:
        is_folder = not os.path.lexists(state)
    except OSError as error:
        if error.errno == errno.EACCES:
            return state  # what reads it says so
        raise UserError(f"this cannot be a state folder: {error.strerror}", _shown(state), fix) from None
    if not is_folder:
        raise UserError("this is a file, and no state folder", _shown(state), fix)
    return state


def _shown(state: Path) -> str:
    text = str(state)
    return text if len(text) <= 200 else f"a path of {len(text)} characters"
