"""Names for content: sha256 of files and of values."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def sha256_file(path: Path) -> str:
    """sha256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_value(value: Any) -> str:
    """sha256 of a JSON value, in hex: key order and spacing do not matter."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_files(files: Mapping[str, Path]) -> str:
    """sha256 over names and contents of several files."""
    return sha256_value({name: sha256_file(path) for name, path in files.items()})
