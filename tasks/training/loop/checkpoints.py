"""Checkpoints that are complete and verified, or absent."""

import json
import re
import shutil
from pathlib import Path

from tasks.storage.atomic import publish_folder, write_atomic
from tasks.storage.hashing import sha256_file
from tasks.storage.reading import parse_json, read_stored

_NAME = re.compile(r"^step-(\d+)$")
HASHES = "sha256.json"
KEPT = 2


def publish(temporary: Path, folder: Path, step: int) -> Path:
    """Give a written checkpoint its hashes and its name, and remove all but the last two."""
    hashes = {
        str(p.relative_to(temporary)): sha256_file(p) for p in sorted(temporary.rglob("*")) if p.is_file()
    }
    write_atomic(temporary / HASHES, json.dumps(hashes, indent=1))
    final = folder / f"step-{step}"
    publish_folder(temporary, final)
    for old in list_checkpoints(folder)[:-KEPT]:
        old.rename(
            folder / f".{old.name}"
        )  # out of sight first: killed while removing, what is visible is whole
    for hidden in folder.glob(".step-*"):
        shutil.rmtree(hidden)
    return final


def list_checkpoints(folder: Path) -> list[Path]:
    """Visible checkpoints, oldest first."""
    if not folder.is_dir():
        return []
    found = [(int(match[1]), path) for path in folder.iterdir() if (match := _NAME.match(path.name))]
    return [path for _, path in sorted(found)]


def latest(folder: Path) -> Path | None:
    """The newest checkpoint whose files still have their hashes; a damaged one is passed over for the one before."""
    return next((path for path in reversed(list_checkpoints(folder)) if verify(path)), None)


def verify(checkpoint: Path) -> bool:
    """Whether every file of a checkpoint is there and unchanged."""
    try:
        hashes = parse_json(read_stored(checkpoint / HASHES))
        return all(sha256_file(checkpoint / name) == value for name, value in hashes.items())
    except (OSError, ValueError, AttributeError):  # a file is gone, or the list itself is damaged
        return False
