"""Increments: a specification whose domain grows, what one increment of it is, and what is remembered of them."""

from typing import Literal

from pydantic import Field

from schemas.base import Schema
from schemas.spec.sources import Source


class Increments(Schema):
    """The files of `domain` grow over time: each run learns what is new since the last decision."""

    start: Literal["champion", "base"] = "champion"
    """What a candidate starts from: the model in use (the first run: `base`), or `base` each time."""
    past_ratio: float = Field(default=0.5, ge=0, le=1)
    """Share of the replay tokens drawn from earlier increments; the rest comes from `replay`. Without `replay`, all."""
    max_repetitions: float = Field(default=4, gt=0, le=10**6, allow_inf_nan=False)
    """One run goes through the rows of earlier increments at most so many times; what is left comes from `replay`."""
    remembered: int = Field(default=8, ge=1, le=10_000)
    """So many of the latest increments are replayed and scored again."""
    reference: bool = False
    """Train a second model, as long as the candidate, from the original base on this increment's rows alone, with the same
    method, settings, remedies and seed, and general replay only: what it scores better than the candidate is intransigence.
    No rule asks about it, and it is never deployed. None before the first promotion: the candidate is one itself."""


class PickedSource(Source):
    """A source of which a run reads only some files."""

    files: tuple[str, ...] = Field(min_length=1)
    """Of the files that `path` matched, these."""


class PastRows(Schema):
    """The rows of an earlier increment."""

    number: int = Field(ge=1, le=10**9)
    """Its number."""
    rows: str = Field(pattern=r"^[0-9a-f]{64}$")
    """sha256 of the list of its rows' digests (in the state folder)."""


class Increment(Schema):
    """One increment, worked out by Rootstock from `increments`, the files and what was decided before. Not for people."""

    number: int = Field(ge=1, le=10**9)
    """Counted from 1 over all decisions of this name."""
    original: str
    """The model that all increments began with."""
    parent: str | None = None
    """Run of the champion that the candidate is measured against; none before the first promotion."""
    new: tuple[PickedSource, ...] = Field(min_length=1)
    """Files with rows that were not decided on before, in place of `domain`."""
    past: tuple[PickedSource, ...] = ()
    """Files that still hold rows which the champion learned."""
    remembered: tuple[PastRows, ...] = ()
    """Earlier increments that are replayed and scored again, oldest first."""
    consumed: tuple[PastRows, ...] = ()
    """All increments whose rows are not new."""
    gone: tuple[str, ...] = ()
    """Files of earlier increments that were deleted: their rows are not replayed any more."""

    @property
    def suites(self) -> tuple[str, ...]:
        """Names of the suites of earlier increments."""
        return tuple(past_suite(past.number) for past in self.remembered)


def past_suite(number: int) -> str:
    """Name of the suite of an earlier increment."""
    return f"increment-{number}"
