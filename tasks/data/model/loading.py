"""Where a library reads what somebody else made: whatever it says against it is the input's fault, told in three lines."""

import contextlib
import errno
import traceback
from collections.abc import Iterator
from pathlib import Path

from schemas.errors import UserError

_MACHINE = {errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOMEM}
"""What the machine refuses is told as such (flows/progress/failures.py)."""


@contextlib.contextmanager
def loading(what: str, where: Path | str, fix: str, shown: Path | None = None) -> Iterator[None]:
    """Tell an exception of the block as a mistake in `where`; `shown` is the view that the library knows it by.

    Only for blocks in which a library reads: a defect of ours in it would be told as the input's.

    Raises:
        UserError: `what: the library's reason`.
    """
    try:
        yield
    except UserError:
        raise
    except BaseException as error:
        # tokenizers and safetensors panic on some inputs, and a panic is no Exception
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        if isinstance(error, OSError) and error.errno in _MACHINE:
            raise
        raise UserError(f"{what}: {reason_of(error, where, shown)}", str(where), fix) from None


@contextlib.contextmanager
def encoding(where: Path | str) -> Iterator[None]:
    """Tell a panic of tokenizers in the block, of a pattern that takes for ever on some text, as the model's fault.

    Raises:
        UserError: the tokenizer of the model `where` gave up.
    """
    try:
        yield
    except BaseException as error:
        if (
            type(error).__name__ != "PanicException"
        ):  # a panic is no Exception, and its class cannot be imported
            raise
        what = f"the tokenizer cannot encode a text: {reason_of(error)}"
        raise UserError(what, f"tokenizer.json of {where}", "use a base whose tokenizer works") from None


@contextlib.contextmanager
def library_refusal(what: str, where: Path | str, fix: str) -> Iterator[None]:
    """As `loading`, for blocks with much of our own code: only what a library itself raises is the input's fault.

    Raises:
        UserError: `what: the library's reason`.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if "site-packages" not in traceback.extract_tb(error.__traceback__)[-1].filename:
            raise
        with loading(what, where, fix):
            raise


def reason_of(error: BaseException, where: Path | str = "", shown: Path | None = None) -> str:
    """The first line that says something, without the places that only we know; a class's name where none does."""
    text = str(error) if shown is None else str(error).replace(str(shown), str(where))
    first, second, *_ = (*(line.strip() for line in text.splitlines() if line.strip()), "", "")
    line = f"{first} {second}" if first.endswith(":") else first
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, KeyError | IndexError | AttributeError | TypeError) or not line:
        line = f"{type(error).__name__} {line}".strip()
    return line if len(line) <= 300 else line[:297] + "..."
