"""How a command ends that cannot go on: three lines and an exit code."""

import errno
import os
import re
import sys
import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING, NoReturn

from flows.progress.terminal import tell
from schemas.errors import ExitCode, MachineFailed, UserError

if TYPE_CHECKING:
    from typer._click.exceptions import UsageError

_SPACE = "free some space, then run the same command again: it goes on where it was"
_MAY = "make it writable and readable, or name another folder with --state"
_STANDS = "a file stands where a folder is needed, or the other way round: move it, or name another folder"
_CUT_SHORT = 0
"""What the machine said is lost: a file could not be written to its end."""
_FIXES = {
    _CUT_SHORT: "free some space (df), or raise the limit of a file's size (ulimit -f); then run the same command again: it"
    " goes on where it was",
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EFBIG: "raise the limit of a file's size (ulimit -f), or write to a disk that takes larger files; then run the"
    " same command again: it goes on where it was",
    errno.EACCES: _MAY,
    errno.EPERM: _MAY,
    errno.EROFS: "name a folder on a disk that can be written with --state",
    errno.ENOTDIR: _STANDS,
    errno.EEXIST: _STANDS,
    errno.EISDIR: _STANDS,
    errno.EIO: "the disk cannot be read or written: check it, or move the files to another",
    errno.ENOENT: "put it back if something removed it meanwhile, then run the same command again",
    errno.ENAMETOOLONG: "name a file or folder with a shorter name",
    errno.ELOOP: "remove the link that leads back to itself",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "raise the limit of open files of this machine",
    errno.ESTALE: "the network disk has lost it: mount it again",
    errno.ENOMEM: "free some memory, then run the same command again: finished steps are kept",
    errno.EMEDIUMTYPE: "move away what stands there: it is no file (a pipe, a device, a folder), or far too large",
    errno.ETXTBSY: "wait until nothing uses it",
    errno.EBUSY: "wait until nothing uses it",
}
_WORDS = {
    r"No space left on device|os error 28\b|disk is full": errno.ENOSPC,
    r"Disk quota exceeded|os error 122\b": errno.EDQUOT,
    r"File too large|os error 27\b": errno.EFBIG,
    r"PytorchStreamWriter failed|inline_container.cc:\d+\] . unexpected pos|\d+ requested and \d+ written": _CUT_SHORT,
    r"disk I/O error": _CUT_SHORT,
    r"Input/output error|os error 5\b": errno.EIO,
    r"Read-only file system|os error 30\b": errno.EROFS,
    r"[Cc]an't allocate memory|[Cc]annot allocate memory|not enough memory|out of memory": errno.ENOMEM,
}
"""What libraries that lose the number of an error (safetensors, torch, numpy, SQLite) say instead."""


_EVERYWHERE = {_CUT_SHORT, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.ENOMEM}
"""Those that are meant wherever they stand in a chain of errors; "no such file" may have been looked for and mended."""


def fail(error: UserError) -> NoReturn:
    """Print the three lines of every mistake and leave with its exit code."""
    for one in getattr(error, "errors", [error]):
        tell(f"error: {one}")
    sys.exit(int(error.exit_code))


def machine_error(error: BaseException) -> UserError | None:
    """What the machine refused, in three lines; None if it is rather a defect of ours."""
    for depth, one in enumerate(_causes(error)):
        number = _number(one)
        if number is not None and (depth == 0 or number in _EVERYWHERE):
            why = os.strerror(number) if number else "a file could not be written to its end"
            what = f"the machine refused: {why}"
            place = getattr(one, "filename", None)
            return MachineFailed(what, os.fsdecode(place) if place else "this machine", _FIXES[number])
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it came from: libraries wrap what the machine said."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _number(error: BaseException) -> int | None:
    """The system's number of an error that is the machine's."""
    if isinstance(error, OSError) and error.errno in _FIXES:
        return error.errno
    if isinstance(error, MemoryError):
        return errno.ENOMEM
    if isinstance(error, UserError):
        return None
    text = str(error)
    if (
        isinstance(error, OSError)
        and (told := re.search(r"\[Errno (\d+)\]", text))
        and int(told[1]) in _FIXES
    ):
        return int(told[1])
    return next((number for words, number in _WORDS.items() if re.search(words, text)), None)


def environment_error(error: BaseException) -> UserError | None:
    """What a variable of the environment made of a library, if that shows: it read a name that is set, and could not."""
    if isinstance(error, Warning):
        what = f"a library's warning was made an error: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        return UserError(
            what, "PYTHONWARNINGS or python -W", "unset PYTHONWARNINGS, or let it show warnings only"
        )
    frames = traceback.extract_tb(error.__traceback__) if isinstance(error, ValueError) else []
    for frame in reversed(frames):
        if "site-packages" not in frame.filename:
            continue
        for name in re.findall(
            r"""(?:environ|getenv|env_?\w*)\W+(?:get)?\W*["']([A-Z][A-Z0-9_]+)["']""", frame.line or ""
        ):
            if name in os.environ:
                what = f"{name} is set to something that cannot be read: {str(error).splitlines()[0]}"
                return UserError(
                    what,
                    f"environment variable {name}",
                    f"unset {name}, or set it to what its library expects",
                )
    return None


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
