"""How domain and general text are mixed."""

from pydantic import Field

from schemas.base import Schema


class Mixture(Schema):
    """The share of general text in training."""

    replay_ratio: float = Field(default=0.25, ge=0, lt=1, allow_inf_nan=False)
    """Share of training TOKENS drawn from `replay`; reported as requested and as achieved."""
