"""`replay_choice.json`: the forgetting curve that proxies measured, and the ratio for a budget."""

from schemas.base import Schema


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


class ReplayChoice(Schema):
    """The smallest replay ratio whose upper bound meets the budget on every general suite; None if none does."""

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
    curves: tuple[ForgettingCurve, ...]

    @property
    def sentence(self) -> str:
        """The choice in one sentence with its numbers."""
        bound = f"{self.confidence:.0%} bound"
        if self.replay_ratio is None:
            most = self.curves[0].band[-1].replay_ratio
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
