"""Names for content: sha256 of files, of values and of code."""

import hashlib
import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[2]


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


@cache
def code_version(folders: tuple[str, ...], libraries: Sequence[str] = ()) -> str:
    """sha256 over the source below `folders` (relative to the project) and the versions of `libraries`."""
    sources = {
        str(path.relative_to(_ROOT)): path
        for folder in folders
        for path in sorted([_ROOT / folder] if folder.endswith(".py") else (_ROOT / folder).rglob("*.py"))
    }
    versions = {library: importlib.metadata.version(library) for library in libraries}
    return sha256_value([sha256_files(sources), versions])
