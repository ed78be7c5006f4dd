"""Counts of a tuned model."""

import statistics
from collections.abc import Sequence
from typing import Self

from schemas.base import Schema


class Ranks(Schema):
    """Numerical rank of after - before, over the weight matrices that changed."""

    matrices: int
    total: int
    """Sum of all ranks."""
    smallest: int
    median: float
    largest: int

    @classmethod
    def of(cls, ranks: Sequence[int]) -> Self | None:
        """Summarise; None where no matrix changed."""
        if not ranks:
            return None
        return cls(
            matrices=len(ranks),
            total=sum(ranks),
            smallest=min(ranks),
            median=statistics.median(ranks),
            largest=max(ranks),
        )


class Parameters(Schema):
    """Counts of a trained model; see docs/guides/counts.md for what each means and where the literature differs."""

    total: int
    """Parameters of the model as it trained, the method's included."""
    trainable: int
    """Parameters that received gradients: optimizer memory follows them."""
    changed: int
    """Weights of the base's own architecture that differ in the deployed model."""
    added: int
    """Numbers the deployed model has beside the base's architecture: what inference computes more."""
    stored_bytes: int
    """Bytes of the safetensors that are kept for this model."""
    ranks: Ranks | None
    """None where nothing of the base changed, or where the model is too large to decompose."""


class Latency(Schema):
    """Least milliseconds of a forward pass over one sequence."""

    base: float
    tuned: float
    """With the method beside the base."""
    merged: float | None
    """Merged into plain weights; None where the method does not merge."""
    tokens: int = 64
    """Of the sequence; fewer where the model takes no more."""
