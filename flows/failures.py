"""How a command ends that cannot go on: three lines and an exit code."""

import errno
import os
import sys
import traceback
from typing import NoReturn

from schemas.errors import ExitCode, MachineFailed, UserError


def fail(error: UserError) -> NoReturn:
    """Print the three lines of every mistake and leave with its exit code."""
    for one in getattr(error, "errors", [error]):
        print(f"error: {one}", file=sys.stderr)
    sys.exit(int(error.exit_code))


def machine_error(error: OSError) -> UserError | None:
    """What the machine refused, in three lines; None if it is rather a defect of ours."""
    fixes = {
        errno.ENOSPC: "free some space, then run the same command again: it goes on where it was",
        errno.EDQUOT: "free some space, then run the same command again: it goes on where it was",
        errno.EACCES: "make it writable and readable, or name another folder with --state",
        errno.EPERM: "make it writable and readable, or name another folder with --state",
        errno.EROFS: "name a folder on a disk that can be written with --state",
        errno.ENOTDIR: "a file stands where a folder is needed: name another folder with --state",
        errno.EEXIST: "a file stands where a folder is needed: name another folder with --state",
        errno.EIO: "the disk cannot be read or written: check it, or move the files to another",
    }
    if error.errno not in fixes:
        return None
    what = f"the machine refused: {os.strerror(error.errno)}"
    return MachineFailed(what, str(error.filename or "this disk"), fixes[error.errno])


def defect(error: Exception) -> UserError:
    """Show where it happened, for those who will mend it."""
    traceback.print_exception(error)
    told = UserError(
        f"a defect of Rootstock: {type(error).__name__}: {error}",
        "the traceback above",
        "please report it with the traceback; finished steps are kept, the same command goes on after them",
    )
    told.exit_code = ExitCode.DEFECT
    return told
