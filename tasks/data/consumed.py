"""The rows that an increment consumed, as a sorted list of digests in the state folder, named by its own sha256."""

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from schemas.errors import UserError
from schemas.increments import PastRows
from tasks.data.duplicates import sort_digests
from tasks.storage.atomic import write_atomic

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
    file = rows_file(state, sha256)
    if not file.is_file():
        raise UserError(
            "the list of rows of an earlier increment is gone: which rows are new cannot be told",
            str(file),
            "restore the file from a backup of the state folder",
        )
    rows: Rows = np.load(file)
    return rows
