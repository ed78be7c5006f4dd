"""A comparison of remedies against forgetting: what each is held against, and what was found."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from schemas.base import Schema
from schemas.results.comparison import Estimate, Seed

Strength = Annotated[float, Field(ge=-(10**12), le=10**12, allow_inf_nan=False)]


class Vary(Schema):
    """One key in several strengths."""

    key: str = Field(pattern=r"^[a-z_]+(\.[a-z0-9_]+)+$")
    """Dotted key of the run specification, such as `mixture.replay_ratio`."""
    values: tuple[Strength, ...] = Field(min_length=1)


class Candidate(Schema):
    """A way to train: what it changes in the shared specification."""

    name: str = Field(min_length=1)
    set: tuple[str, ...] = ()
    """`key.path=value` each."""
    vary: Vary | None = None
    """Train it once per strength."""
    against: str | None = None
    """Name of the candidate that it is held against; by default the first."""
    control: bool = False
    """It is there for comparison and is no remedy: a placebo, more steps, a lower learning rate."""


class RemedyComparison(Schema):
    """Candidates x strengths x seeds. The first candidate has no remedy: all are held against it unless they say otherwise."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")
    """Name of the results' folder."""
    spec: str = Field(min_length=1)
    """Run specification that holds everything that is the same."""
    overrides: tuple[str, ...] = ()
    """Values of that specification to replace, `key.path=value` each."""
    candidates: tuple[Candidate, ...] = Field(min_length=2)
    """What is compared, `{name: ..., set: [key.path=value]}` each; the first has no remedy."""
    line: str | None = None
    """Name of the control that trains less, such as at lower learning rates (`vary`). From the base over its strengths to
    the first candidate goes a line: what is forgotten at each gain without any remedy. Those held against the first candidate are
    held against the line too."""
    seeds: tuple[Seed, ...] = Field(default=(1, 2, 3), min_length=1)
    """Each seed splits, draws and initialises anew; candidates share them, so they are compared in pairs."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Of each one-sided bound."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [candidate.name for candidate in self.candidates]
        if len(set(names)) < len(names):
            raise ValueError("candidates: a name occurs twice; give each its own")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds: an entry occurs twice; remove one")
        if self.candidates[0].vary is not None:
            raise ValueError(
                "candidates.0.vary: the first candidate is what the others are held against; it has one strength"
            )
        if self.line is not None and not any(c.name == self.line and c.control for c in self.candidates[1:]):
            raise ValueError(
                f"line: '{self.line}' must be the name of a candidate with control: true; correct the name, or remove line"
            )
        for index, candidate in enumerate(self.candidates):
            if candidate.against is None:
                continue
            other = next((c for c in self.candidates if c.name == candidate.against), None)
            if other is None or other.name == candidate.name or other.vary is not None:
                raise ValueError(
                    f"candidates.{index}.against: '{candidate.against}' must be the name of another candidate without vary"
                )
        return self


class RemedyCell(Schema):
    """One training of such a comparison."""

    candidate: int
    """Index into the comparison's candidates."""
    strength: float | None
    """The value of its varied key."""
    seed: int


class RemedyRow(Schema):
    """What was found of one candidate at one strength: means over seeds, in the scores' unit."""

    candidate: int
    strength: float | None
    label: str
    control: bool
    unit: str
    refused: str | None = None
    """Why there is no result."""
    gain: Estimate | None = None
    """How much better on the domain than the base."""
    forgetting: dict[str, Estimate] = Field(default_factory=dict)
    """General suite -> how much worse than the base."""
    against: str | None = None
    """What it is held against; None for the first candidate."""
    kept: dict[str, Estimate] = Field(default_factory=dict)
    """General suite -> how much less is forgotten than by `against`, paired by seed and item."""
    kept_at_gain: dict[str, Estimate] = Field(default_factory=dict)
    """General suite -> how much less is forgotten than on the comparison's line at the same gain."""
    domain_cost: Estimate | None = None
    """How much worse on the domain than `against`, paired by seed and item."""
    domain_tokens: float = 0.0
    replay_tokens: float = 0.0
    """Label tokens trained on, means over seeds."""
    seconds: float = 0.0
    """Of training."""

    @property
    def worst(self) -> Estimate | None:
        """Forgetting on the suite that suffers most."""
        return max(self.forgetting.values(), key=lambda e: e.estimate, default=None)

    @property
    def helps(self) -> bool:
        """Less is forgotten than by `against` on some suite, and more on none: its bound excludes zero."""
        return shows_less(self.kept)

    @property
    def only_trains_less(self) -> bool:
        """It helps, and training less without it is not shown to be worse at the same gain."""
        return self.helps and bool(self.kept_at_gain) and not shows_less(self.kept_at_gain)


def shows_less(kept: dict[str, Estimate]) -> bool:
    """Some bound lies above zero, and none below."""
    return any(e.low > 0 for e in kept.values()) and not any(e.high < 0 for e in kept.values())
