"""How a command ends that cannot go on: three lines and an exit code."""

import errno
import os
import sys
import traceback
from typing import TYPE_CHECKING, NoReturn

from flows.terminal import tell
from schemas.errors import ExitCode, MachineFailed, UserError

if TYPE_CHECKING:
    from typer._click.exceptions import UsageError


def fail(error: UserError) -> NoReturn:
    """Print the three lines of every mistake and leave with its exit code."""
    for one in getattr(error, "errors", [error]):
        tell(f"error: {one}")
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


def misused(error: "UsageError") -> UserError:
    """A mistake in the words of the command line itself."""
    if not error.format_message():  # no words at all: the help was printed
        sys.exit(int(ExitCode.BAD_SPECIFICATION))
    context = error.ctx
    path = context.command_path if context else "rootstock"
    usage = context.get_usage() if context else ""
    return UserError(error.format_message(), path, " ".join(f"see {path} --help. {usage}".split()))


def defect(error: BaseException) -> UserError:
    """Show where it happened, for those who will mend it."""
    tell("".join(traceback.format_exception(error)).rstrip())
    told = UserError(
        f"a defect of Rootstock: {type(error).__name__}: {error}",
        "the traceback above",
        "please report it with the traceback; finished steps are kept, the same command goes on after them",
    )
    told.exit_code = ExitCode.DEFECT
    return told
