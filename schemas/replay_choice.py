"""`replay_choice.json`: the forgetting curve, measured by proxies or predicted from the shift, and the ratio for a budget."""

from schemas.base import Schema
from schemas.mixture import ChooseBy
from schemas.shift_calibration import ShiftCalibration


class ProxyPoint(Schema):
    """What one proxy training forgot of one general suite's development part, in nats per token."""

    replay_ratio: float
    """As achieved, in tokens."""
    domain_tokens: int
    replay_tokens: int
    steps: int
    seed: int
    forgetting: float
    standard_error: float
    """Over documents, clustered; what another seed would give is not in it."""


class CurvePoint(Schema):
    """Forgetting that the whole run is expected to show at one replay ratio, in nats per token."""

    replay_ratio: float
    estimate: float
    low: float
    high: float
    """One-sided bounds of a new training: curve, documents and seed."""


class ForgettingCurve(Schema):
    """Forgetting of one suite: E + C z + (E' + C' z) ln(domain tokens / reference), z = (eps / (ratio + eps))^gamma."""

    suite: str
    documents: int
    clusters: int
    tokens: int
    """Of the development part, that the verdict does not score."""
    floor: float
    """E: what no amount of replay takes away, at the reference length."""
    scale: float
    """C, at the reference length; not below 0."""
    eps: float
    gamma: float
    floor_slope: float
    """E', per factor e of domain tokens."""
    scale_slope: float
    """C', per factor e of domain tokens; not below 0."""
    reference_tokens: int
    """Domain tokens of the longest proxies."""
    relative_noise: float
    """Spread of the proxies around the curve, as a share of their forgetting (seeds, and what the form cannot follow)."""
    points: tuple[ProxyPoint, ...]
    band: tuple[CurvePoint, ...]
    """At the whole run's length, from ratio 0 to the highest that was tried."""


class ShiftCurve(Schema):
    """Forgetting of one suite as other bases and domains let expect it; nothing was trained on this base."""

    suite: str
    documents: int
    tokens: int
    """Of the development part, that the verdict does not score."""
    loss_gap: float
    """Base's loss on the domain minus that on the suite, in nats per token."""
    divergence: float
    """Jensen-Shannon divergence of their tokens, in nats."""
    band: tuple[CurvePoint, ...]
    """At the whole run's length, from ratio 0 to the highest that was calibrated on."""


class ReplayChoice(Schema):
    """The smallest replay ratio whose upper bound meets the budget on every general suite; None if none does."""

    by: ChooseBy = "proxies"
    """What the curves rest on."""
    budget: float
    """Nats per token."""
    confidence: float
    replay_ratio: float | None
    suite: str
    """The suite that decided."""
    estimate: float
    high: float
    """Of that suite at the chosen ratio; at the best ratio tried, if none meets the budget."""
    domain_tokens: int
    """Of the whole run at that ratio."""
    curves: tuple[ForgettingCurve, ...] = ()
    """Measured, if by proxies."""
    shift_curves: tuple[ShiftCurve, ...] = ()
    """Predicted, if by shift."""
    calibration: ShiftCalibration | None = None
    """What the prediction rests on, if by shift."""

    @property
    def sentence(self) -> str:
        """The choice in one sentence with its numbers, and for a prior that nothing was measured."""
        return self._chosen if self.calibration is None else f"{self._chosen}. {self.rests_on}"

    @property
    def rests_on(self) -> str:
        """What a prior is and is not, in one sentence; empty for a measured curve."""
        calibration = self.calibration
        if calibration is None:
            return ""
        pair, base = calibration.factors
        return (
            "This is an experimental prior, not measured on this base: it rests on"
            f" {calibration.trainings} trainings of {calibration.pairs} pairs of base and domain, was off by a factor of"
            f" {pair:.1f} on pairs that were left out and of {base:.1f} on bases that were, and the shift was"
            f" {'shown' if calibration.helps else 'not shown'} to predict better than ignoring it"
        )

    @property
    def _chosen(self) -> str:
        bound = f"{self.confidence:.0%} bound"
        if self.replay_ratio is None:
            most = (self.curves or self.shift_curves)[0].band[-1].replay_ratio
            return (
                f"no replay ratio up to {most:.0%} keeps forgetting within {self.budget:g} nats per token: at best"
                f" {self.estimate:.3f} on {self.suite} ({bound} {self.high:.3f})"
            )
        if self.replay_ratio == 0:
            return (
                f"no replay is needed for a budget of {self.budget:g} nats per token: {self.suite} forgets"
                f" {self.estimate:.3f} without any ({bound} {self.high:.3f})"
            )
        return (
            f"replay ratio {self.replay_ratio:g} is the smallest for a budget of {self.budget:g} nats per token:"
            f" {self.suite} is expected to forget {self.estimate:.3f} ({bound} {self.high:.3f})"
        )
