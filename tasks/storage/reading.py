"""Read what is stored: a regular file of a size that may be, and JSON of a depth that may be; all else is damage, never a hang."""

import errno
import json
import os
import stat
from io import BufferedReader
from pathlib import Path
from typing import Any

MAX_BYTES = 2**30
"""Of a file that is read as a whole. The longest is a list of scores, item by item."""
KINDS = {
    stat.S_IFIFO: "a pipe", stat.S_IFDIR: "a folder", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}  # fmt: skip


def is_plain(path: Path) -> bool:
    """Whether nothing but a regular file is there, or nothing at all; a link is none."""
    return not os.path.lexists(path) or stat.S_ISREG(path.lstat().st_mode)


def open_stored(path: Path) -> BufferedReader:
    """Open a regular file to read it; a pipe would wait for a writer, a device may have no end.

    Raises:
        OSError: it cannot be opened, or is something else (EMEDIUMTYPE).
    """
    return open(path, "rb", opener=_open_regular)


def _open_regular(path: str, flags: int) -> int:
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    kind = KINDS.get(stat.S_IFMT(mode), "something else")
    raise OSError(errno.EMEDIUMTYPE, f"it is {kind}, not a file", path)


def read_stored(path: Path) -> bytes:
    """The bytes of a regular file.

    Raises:
        OSError: it cannot be opened, is something else, or is too large (EMEDIUMTYPE).
    """
    with open_stored(path) as file:
        if os.fstat(file.fileno()).st_size > MAX_BYTES:
            raise OSError(errno.EMEDIUMTYPE, "it is larger than anything that is kept there", str(path))
        return file.read(MAX_BYTES)


def parse_json(content: bytes | str) -> Any:
    """A JSON value.

    Raises:
        ValueError: it is none, or nested deeper than anything that is written.
    """
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
