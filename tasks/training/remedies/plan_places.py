"""The plan as remedies see it: which pieces are replay, which are the same document."""

import numpy as np
import numpy.typing as npt

from schemas.run import RunSpec
from tasks.data.mix import Pieces


def is_replay(spec: RunSpec, pieces: Pieces) -> npt.NDArray[np.bool_]:
    """Whether each piece is of a replay source: sources are numbered domain first."""
    found: npt.NDArray[np.bool_] = pieces["source"] >= len(spec.domain)
    return found


def unique_pieces(pieces: Pieces) -> tuple[Pieces, npt.NDArray[np.int64]]:
    """The different pieces in the order of their first occurrence, and of each piece which of them it is."""
    _, first, numbers = np.unique(pieces, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return pieces[first[order]], rank[numbers.reshape(-1)]
