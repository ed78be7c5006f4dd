"""The files that a path or glob names: all of them, or an error that says which one is none, never fewer without a word."""

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from schemas.commands import command
from schemas.environment import expand
from schemas.errors import UserError, UserErrors
from schemas.paths.file_names import kind_of, unfit_name
from schemas.spec.increments import PickedSource
from schemas.spec.sources import Source

MAX_NAMED = 8
"""Errors of one glob: the rest is counted."""


def source_files(source: Source) -> list[str]:
    """Files of a source, sorted; a plain path is itself, a glob what it matches, of a picked source those picked.

    Raises:
        KeyError: the path names an environment variable that is not set.
        UserErrors: see `matching_files`.
    """
    return list(source.files) if isinstance(source, PickedSource) else matching_files(source.path)


def matching_files(path: str) -> list[str]:
    """Files that a path or glob names, sorted; none if nothing is there. Environment variables as in `expand`.

    Raises:
        KeyError: as `expand`.
        UserErrors: among what it names is something that is no file, a name that is no text, or a folder that cannot be
            opened.
    """
    path = expand(path)
    if os.path.lexists(path):
        found, closed = [path], []
    else:
        found = glob.glob(path, recursive=True)  # noqa: PTH207  (absolute patterns; keeps `./`)
        closed = list(_closed_folders(path)) if glob.has_magic(path) else []
    files = sorted(file for file in found if Path(file).is_file())
    wrong = [*_wrong(path, found, files), *closed]
    if len(wrong) > MAX_NAMED:
        more = f"{len(wrong) - MAX_NAMED:,} more are no files that can be read"
        wrong = [*wrong[:MAX_NAMED], UserError(more, path, "narrow the glob")]
    if wrong:
        raise UserErrors(wrong)
    return files


def _wrong(path: str, found: Sequence[str], files: Sequence[str]) -> Iterator[UserError]:
    """What of the found things is no file, or has a name that is no text."""
    for file in sorted(found):
        if (unfit := unfit_name(file)) is not None:
            yield unfit
        elif (kind := kind_of(file)) is not None and not (
            kind == "a folder" and _all_read(path, file, files)
        ):
            yield UserError(f"this is {kind}, not a file", file, _fix(kind, file))


def _fix(kind: str, file: str) -> str:
    if kind == "a folder":
        return f"name its files, such as {file.rstrip('/')}/*.jsonl, or use a glob that leaves it out"
    if kind == "a link to nothing":
        return "put back what it points to, or remove the link"
    return "write its content to a file, or use a glob that leaves it out"


def _all_read(path: str, folder: str, files: Sequence[str]) -> bool:
    """Whether a folder is found only because `**` goes through it: what lies in it is found too, or there is nothing."""
    if "**" not in path:
        return False
    inside = os.path.join(folder, "")  # noqa: PTH118  (keeps `./`)
    if any(file.startswith(inside) for file in files):
        return True
    return not any(not one.is_dir() and not one.name.startswith(".") for one in Path(folder).rglob("*"))


def _closed_folders(pattern: str) -> Iterator[UserError]:
    """Folders that a glob would have to look into and may not: Python's own passes over them."""
    parts = Path(pattern).parts
    for depth in range(1, len(parts)):
        if not glob.has_magic(str(Path(*parts[depth:]))):
            continue
        for folder in glob.glob(str(Path(*parts[:depth])), recursive=True):  # noqa: PTH207
            if Path(folder).is_dir() and not os.access(folder, os.R_OK | os.X_OK, effective_ids=True):
                fix = f"run: {command('chmod', 'u+rx', folder)}"
                yield UserError("no permission to look into this folder", folder, fix)
