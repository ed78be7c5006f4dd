"""How domain and general text are mixed."""

from typing import Literal

from pydantic import Field

from schemas.base import Schema


class Mixture(Schema):
    """The share of general text in training."""

    replay_ratio: float = Field(default=0.25, ge=0, lt=1, allow_inf_nan=False)
    """Share of training TOKENS drawn from `replay`; reported as requested and as achieved."""
    temperature: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Replay sources by their size: each source's weight is multiplied by its label tokens to the power 1 / temperature.
    1 draws all documents alike, large temperatures all sources alike. By default sizes do not count."""
    importance: Literal["towards_domain", "away_from_domain"] | None = None
    """Which replay documents are drawn first: those like the domain, or those unlike it, by hashed n-grams (DSIR; Xie et
    al., 2023). By default all alike."""
