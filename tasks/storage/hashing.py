"""Names for content: sha256 of files and of values."""

import hashlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.storage.reading import open_stored

_SETTLED_NANOSECONDS = 1_000_000_000
_read: dict["Identity", str] = {}

Identity = tuple[int, int, int, int, int]
"""device, inode, bytes, mtime_ns, ctime_ns: while these stay, nobody has written to the file."""


def identity_of(stat: os.stat_result) -> Identity:
    """What a file system says of a file's content."""
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def sha256_file(path: Path) -> str:
    """sha256 of a file's bytes, in hex; they are read once in a process as long as nobody writes to the file.

    Of a pipe or a device no hash is taken: see `open_stored`. A file written within the last second is read again: clocks of file systems are too coarse to tell two writes apart.
    """
    with open_stored(path) as file:
        before = identity_of(os.fstat(file.fileno()))
        if (known := _read.get(before)) is not None:
            return known
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        settled = time.time_ns() - max(before[3:]) > _SETTLED_NANOSECONDS
        if settled and identity_of(os.fstat(file.fileno())) == before:
            _read[before] = digest
    return digest


def sha256_value(value: Any) -> str:
    """sha256 of a JSON value, in hex: key order and spacing do not matter."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_files(files: Mapping[str, Path]) -> str:
    """sha256 over names and contents of several files."""
    return sha256_value({name: sha256_file(path) for name, path in files.items()})
