"""`shift_calibration.json`: what forgetting was measured to be over pairs of base and domain, as a curve of the shift."""

import math
from typing import Literal

from pydantic import Field

from schemas.base import Schema

Feature = Literal["loss_gap", "divergence"]
Measure = Literal[
    "learning_rate", "domain_tokens", "batch_tokens", "parameters", "loss_gap", "divergence", "replay_ratio"
]


class Range(Schema):
    """Least and largest value that was calibrated on."""

    low: float
    high: float


class ShiftCalibration(Schema):
    """ln F = intercept + slopes . features + rate ln(learning rate) + length ln(domain steps) + gamma ln(eps / (ratio + eps)).

    F is forgetting in nats per token. Features: the loss gap as it is, the divergence as its logarithm.
    """

    bases: tuple[str, ...]
    domains: tuple[str, ...]
    pairs: int = Field(ge=2)
    """Of a base and a domain: what a prediction's bound is over."""
    trainings: int
    methods: tuple[str, ...]
    """Kinds."""
    ranges: dict[Measure, Range]
    """`learning_rate` is the mean over the schedule, `parameters` those of the base."""
    intercept: float
    slopes: dict[Feature, float]
    """Of the features that are used."""
    rate: float
    length: float
    """Domain steps are domain tokens over batch_tokens."""
    eps: float
    gamma: float
    noise_nats: float
    """Residuals are differences of ln(F + noise_nats): below it a difference counts for little."""
    spread: float
    """Root mean square of the residuals of pairs that were left out of the fit."""
    spread_without_shift: float
    """The same without any feature of the shift."""
    spread_of_base: float
    """The same as `spread`, but with all pairs of a base left out: what a base is predicted with that is not among these."""
    gain_low: float
    """By how much the shift makes the error on pairs left out smaller: lower bound over all pairs that were measured, also those
    outside of the ranges; one-sided 95 %."""

    @property
    def degrees_of_freedom(self) -> int:
        """Of the spread: pairs are independent, trainings of one pair are not."""
        return self.pairs - 1

    @property
    def factors(self) -> tuple[float, float]:
        """By which predictions were off, as root mean squares: for a pair that was left out, for a base that was."""
        return math.exp(self.spread), math.exp(self.spread_of_base)

    @property
    def helps(self) -> bool:
        """Whether the shift was shown to predict pairs that were left out better than ignoring it does."""
        return self.gain_low > 0
