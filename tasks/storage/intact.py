"""Whether a folder still holds what was written into it: the same files, no more and no fewer, with the same bytes."""

import json
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.results.artifacts import FileHash
from tasks.storage.atomic import write_atomic
from tasks.storage.hashing import identity_of, sha256_file, sha256_value
from tasks.storage.reading import parse_json, read_stored

SMALL_BYTES = 2**20
"""Files up to this size are read at each look; larger ones where it is asked for, or where something wrote to them."""
SEAL = "seal"
NOT_OURS = "does not belong there"


@dataclass(frozen=True)
class Damage:
    """What is wrong with a file of a folder."""

    file: Path
    what: str
    """Such as `is missing`."""

    def __str__(self) -> str:
        return f"{str(self.file)!r} {self.what}"


def list_files(folder: Path) -> list[Path]:
    """Everything below a folder that is no folder, sorted; a link counts as what it is, wherever it points."""
    return sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())


def hash_folder(folder: Path, leave_out: Collection[str] = ()) -> tuple[FileHash, ...]:
    """Name, hash and size of every file below a folder but those named in `leave_out`."""
    return tuple(
        FileHash(path=str(path.relative_to(folder)), sha256=sha256_file(path), bytes=path.stat().st_size)
        for path in list_files(folder)
        if str(path.relative_to(folder)) not in leave_out
    )


def find_damage(
    folder: Path,
    files: Sequence[FileHash],
    besides: Collection[str] | None = (),
    seen: Path | None = None,
    thorough: bool = True,
) -> Damage | None:
    """The first difference between a folder and what it is said to hold; None if there is none.

    `besides` names files that may be there too (None: any). `seen` is a file that keeps what the file system said of
    large files when their bytes were last read: unless `thorough`, they are read again only if that has changed.
    """
    known = _load_seen(seen)
    now: dict[str, list[int]] = {}
    for file in files:
        path = folder / file.path
        try:
            stat = path.stat()
            if stat.st_size != file.bytes:
                return Damage(path, f"has {stat.st_size:,} bytes instead of {file.bytes:,}")
            identity = list(identity_of(stat))
            trusted = not thorough and file.bytes > SMALL_BYTES and known.get(file.path) == identity
            if not trusted and sha256_file(path) != file.sha256:
                return Damage(path, "has other bytes than were written")
        except FileNotFoundError:
            return Damage(path, "is missing")
        except OSError as error:
            return Damage(path, f"cannot be read ({error.strerror})")
        if file.bytes > SMALL_BYTES:
            now[file.path] = identity
    if besides is not None:
        named = {file.path for file in files} | set(besides)
        for path in list_files(folder):
            if str(path.relative_to(folder)) not in named:
                return Damage(path, NOT_OURS)
    if seen is not None and now != known:
        with suppress(OSError):  # a state folder that cannot be written is only read more often
            write_atomic(seen, json.dumps(now))
    return None


def _load_seen(seen: Path | None) -> dict[str, Any]:
    if seen is None:
        return {}
    try:
        found = parse_json(read_stored(seen))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def sealed(text: str) -> str:
    """A JSON object with one key more: the sha256 of all others."""
    value = json.loads(text)
    value.pop(SEAL, None)
    return json.dumps({**value, SEAL: sha256_value(value)}, indent=1, ensure_ascii=False)


def open_sealed(content: bytes) -> dict[str, Any]:
    """The object without its seal.

    Raises:
        ValueError: it is not what was sealed.
    """
    value = parse_json(content)
    if isinstance(value, dict) and SEAL not in value:
        raise ValueError("it has no seal")
    try:
        whole = isinstance(value, dict) and value.pop(SEAL) == sha256_value(value)
    except RecursionError:  # it was read less deep in the stack
        whole = False
    if not whole:
        raise ValueError("has other bytes than were written")
    found: dict[str, Any] = value
    return found
