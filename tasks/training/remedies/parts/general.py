"""General text that remedies measure on: a beginning of the plan's sample, and its fingerprint."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.data.plan.mix import Pieces


def take_tokens(pieces: Pieces, tokens: int) -> Pieces:
    """The first pieces that together have so many label tokens; the last one is taken whole."""
    before = np.cumsum(pieces["length"].astype(np.int64) - pieces["context"])
    return pieces[: int(np.searchsorted(before, tokens)) + 1]


def documents_sha256(documents: Sequence[npt.NDArray[Any]]) -> str:
    """sha256 over the ids of documents, in their order."""
    whole = hashlib.sha256()
    for ids in documents:
        whole.update(len(ids).to_bytes(8, "little"))
        whole.update(np.ascontiguousarray(ids, np.uint32).tobytes())
    return whole.hexdigest()
