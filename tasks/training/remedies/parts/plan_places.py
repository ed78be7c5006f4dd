"""The plan as remedies see it: which pieces are replay, which are the same document."""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from schemas.spec.run import RunSpec
from tasks.data.plan.mix import Pieces, offsets_of
from tasks.training.remedies.base import Remedy

if TYPE_CHECKING:
    import torch


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


class WeighedPieces(Remedy):
    """Every piece of the plan has a factor for the loss of its tokens."""

    def __init__(self, pieces: Pieces, factors: npt.NDArray[np.float64], facts: dict[str, Any] | None = None):
        """`factors`: (pieces,)."""
        self.offsets, self.factors = offsets_of(pieces), factors.astype(np.float32)
        self.told = facts or {}

    def weights(self, places: "torch.Tensor") -> "torch.Tensor":
        """The factor of the piece that each position is of; padding has no label, its factor is never used."""
        import torch

        number = np.searchsorted(self.offsets, np.maximum(places.cpu().numpy(), 0), side="right") - 1
        return torch.from_numpy(self.factors[number]).to(places.device)

    def facts(self) -> dict[str, Any]:
        """The range of the factors."""
        return {
            **self.told,
            "least_weight": float(self.factors.min()),
            "most_weight": float(self.factors.max()),
        }
