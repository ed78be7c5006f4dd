"""What a short re-alignment tells of a forgetting: does it come back at once?"""

from schemas.base import Schema


class Realigned(Schema):
    """One general suite, in the scores' unit: how much worse the candidate is than the base, with one-sided bounds."""

    suite: str
    before: float
    """As trained."""
    after: float
    """Candidate and base both trained for a few more steps on the same replay text."""
    low: float
    high: float
    """Bounds of `after`."""

    @property
    def restored(self) -> float:
        """Share of the forgetting that is gone; 0 where there was none."""
        return max(0.0, 1 - self.after / self.before) if self.before > 0 else 0.0


class Realignment(Schema):
    """The probe before a rejection for forgetting."""

    steps: int
    """Optimizer steps on replay text."""
    limit: float
    """promotion.max_forgetting"""
    suites: tuple[Realigned, ...]

    @property
    def shallow(self) -> bool:
        """Whether nothing beyond the limit is left on any suite, with confidence."""
        return all(suite.high < self.limit for suite in self.suites)

    @property
    def sentence(self) -> str:
        """What it means, in one sentence."""
        told = ", ".join(
            f"'{s.suite}' from {s.before:+.3f} to {s.after:+.3f} ({s.low:+.3f} to {s.high:+.3f})"
            for s in self.suites
        )
        first = f"{self.steps} steps on replay text, given to the base too, bring {told}"
        if self.shallow:
            return f"{first}: the forgetting is shallow, the knowledge is still there"
        return f"{first}: what is left is forgotten for good"
