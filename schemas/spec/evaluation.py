"""What the model is scored on, before and after."""

from pydantic import Field

from schemas.base import Schema
from schemas.spec.sources import Source


class Evaluation(Schema):
    """The domain suite measures gain; each general suite measures forgetting."""

    domain_holdout: float | None = Field(default=None, gt=0, lt=1)
    """Share of the domain's groups kept for scoring, never trained on."""
    domain: tuple[Source, ...] = ()
    """Separate domain files for scoring, instead of `domain_holdout`."""
    general: tuple[Source, ...] = ()
    """General suites; each is one non-inferiority test, named by the stem of its path."""
    max_tokens: int = Field(default=200_000, ge=1, le=10**12)
    """Score at most so many tokens per suite, chosen by seeded hash (whole documents)."""
    parts: int | None = Field(default=None, ge=1, le=100)
    """Cut every suite by group into so many parts, and score each run of this name on the next one: a suite that decides
    again and again is fitted by those who read its verdicts. Each part must be large enough to decide alone. By default 1;
    with increments each general suite has as many as it fills `max_tokens`, so the rest of a large suite is not left unread.
    Suites of earlier increments stay whole: they are compared over time."""
