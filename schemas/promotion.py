"""What must hold before a model is promoted."""

from typing import Literal

from pydantic import Field

from schemas.base import Schema


class Promotion(Schema):
    """Thresholds in nats per token (language modelling) and the confidence of each one-sided bound."""

    min_gain: float = Field(default=0.02, ge=0, allow_inf_nan=False)
    """The domain loss must fall by more than this, with confidence."""
    max_forgetting: float = Field(default=0.05, ge=0, allow_inf_nan=False)
    """No general loss may rise by this much or more, with confidence."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Confidence of each bound."""
    approval: Literal["automatic", "manual"] = "automatic"
    """`manual`: a passing candidate waits as `challenger` until `rootstock promote RUN`."""
