"""What stands at a path, and whether its name can be told."""

import os
import re
import stat
from pathlib import Path

from schemas.commands import command
from schemas.errors import UserError
from schemas.visible import visible

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe (FIFO)"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def kind_of(path: str | Path) -> str | None:
    """What stands at a path, in words, where it is no file; None for a file."""
    try:
        mode = Path(path).stat().st_mode
    except FileNotFoundError:
        return "a link to nothing" if Path(path).is_symlink() else "nothing"
    except OSError as error:
        return f"not readable ({error.strerror})"
    if stat.S_ISREG(mode):
        return None
    return next((name for test, name in _KINDS if test(mode)), "no regular file")


def unfit_name(file: str | Path) -> UserError | None:
    """What to say of a name that cannot be told: not UTF-8, or with control characters; None of any other."""
    name = str(file)
    if visible(name) == name:
        return None
    what = "a name with bytes that are no UTF-8 text, or with control characters, cannot be told"
    if not os.path.lexists(name):
        return UserError(what, name, "name a file or folder that is called otherwise")
    new = re.sub(r"[^\w.-]", "_", Path(name).name, flags=re.ASCII)
    return UserError(what, name, f"rename it: {command('mv', '--', name, Path(name).with_name(new))}")
