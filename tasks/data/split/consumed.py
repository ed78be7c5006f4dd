"""The rows that an increment consumed, as a sorted list of digests in the state folder, named by its own sha256."""

import hashlib
import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from schemas.errors import UserError
from schemas.spec.increments import PastRows
from tasks.data.split.duplicates import sort_digests
from tasks.storage.atomic import remove, write_atomic
from tasks.storage.hashing import sha256_file
from tasks.storage.reading import read_stored
from tasks.storage.stderr import tell

ROWS = "rows.npy"
"""In the folder of an increment's run: a second copy of its list."""

Rows = npt.NDArray[np.void]
"""Sorted digests, (rows,), 16 bytes each."""


def rows_file(state: Path, sha256: str) -> Path:
    """Where a list of that sha256 lies."""
    return state / "increments" / "rows" / f"{sha256}.npy"


def save_rows(state: Path, parts: Sequence[Path], consumed: Rows) -> tuple[str, int]:
    """Write the digests of the parts' rows that are not among `consumed`; return sha256 and number of the list."""
    rows = sort_digests(parts)
    rows = rows[~np.isin(rows, consumed)] if len(consumed) else rows
    content = io.BytesIO()
    np.save(content, rows)
    sha256 = hashlib.sha256(content.getvalue()).hexdigest()
    write_atomic(rows_file(state, sha256), content.getvalue())
    return sha256, len(rows)


def load_rows(state: Path, increments: Sequence[PastRows]) -> Rows:
    """Digests of all these increments together, sorted.

    Raises:
        UserError: a list was removed: which rows are new cannot be told.
    """
    lists = [_load(state, increment.rows) for increment in increments]
    return np.unique(np.concatenate(lists)) if lists else sort_digests([])


def _load(state: Path, sha256: str) -> Rows:
    """A list, from the copy in its run's folder if the list itself is gone or damaged."""
    file = rows_file(state, sha256)
    if not _is(file, sha256):
        copy = next((copy for copy in sorted((state / "runs").glob(f"*/{ROWS}")) if _is(copy, sha256)), None)
        if copy is None:
            told = "damaged" if os.path.lexists(file) else "gone"
            raise UserError(
                f"the list of rows of an earlier increment is {told}: which rows are new cannot be told",
                str(file),
                "restore the file from a backup of the state folder",
            )
        if file.is_dir():
            remove(file)
        write_atomic(file, read_stored(copy))
        tell(f"{str(file)!r} was gone or damaged: written anew from {str(copy)!r}")
    rows: Rows = np.load(file)
    return rows


def _is(file: Path, sha256: str) -> bool:
    try:
        return sha256_file(file) == sha256
    except OSError:
        return False
