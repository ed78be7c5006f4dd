"""What must hold before a model is promoted."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.base import Schema


class Promotion(Schema):
    """Thresholds in the suites' own unit, and the confidence of each one-sided bound.

    The unit is nats per token for language_modeling; for text_classification and token_classification it is a
    fraction of 1: 0.02 is two points of accuracy or F1.
    """

    min_gain: float = Field(default=0.02, ge=0, le=10**6, allow_inf_nan=False)
    """The domain must get better by more than this, with confidence: its loss fall, its accuracy or F1 rise."""
    max_forgetting: float = Field(default=0.05, ge=0, le=10**6, allow_inf_nan=False)
    """No general suite may get worse by this much or more, with confidence."""
    absolute: dict[str, Annotated[float, Field(ge=0, le=10**6, allow_inf_nan=False)]] = Field(
        default_factory=dict
    )
    """Suite -> a score that the candidate must be better than, with confidence, whatever came before: a loss below it, an
    accuracy or F1 above it. The domain suite is called `domain`, a general one by the stem of its path. Without it a first
    run must be better on the domain than the floor: than a model that only knows frequencies."""
    realign_steps: int = Field(default=20, ge=0, le=10**6)
    """Before a rejection for forgetting: train candidate and base for so many more steps on replay text, and tell
    whether the loss comes back at once. It explains a verdict and never changes it. 0: no probe."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Confidence of each bound."""
    approval: Literal["automatic", "manual"] = "automatic"
    """`manual`: a passing candidate waits as `challenger` until `rootstock promote RUN`."""


class Forced(Schema):
    """`forced.json`: a model was put in use against its decision."""

    who: str
    """Account on the machine."""
    when: str
    """UTC."""
    why: str
    broken: tuple[str, ...]
    """What speaks against it: every rule that failed or could not be told."""
