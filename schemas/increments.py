"""Increments: a specification whose domain grows, what one increment of it is, and what is remembered of them."""

from typing import Literal

from pydantic import Field

from schemas.artifacts import Verdict
from schemas.base import Schema
from schemas.scores import Unit
from schemas.sources import Source


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


class IncrementRecord(Schema):
    """What a terminal decision on an increment leaves: its files are consumed from then on."""

    number: int
    run: str
    parent: str | None
    """Run of the champion it was measured against: the line of champions can be followed back."""
    verdict: Verdict
    """What the decision says; a forced promotion does not change it."""
    files: dict[str, str]
    """file -> sha256"""
    gone: tuple[str, ...] = ()
    rows: str
    """sha256 of the list of digests."""
    num_rows: int
    seed: int
    holdout: float
    """Seed and share of the split: rows that were trained on must never be scored."""
    unit: Unit
    scores: dict[str, float]
    """Suite -> score of the candidate; the increment's own suite is called as the later ones call it."""
    before: dict[str, float]
    """Suite -> score of the champion it was measured against (of the base, if there was none)."""
    base: dict[str, float]
    """Suite -> score of the original base."""
    alone: float | None = None
    """Score on the increment's own suite of a second model that learned it alone (`increments.reference`)."""
    suites: dict[str, str]
    """Suite -> hash of its documents: scores of unlike documents are not compared."""


class Watermark(Schema):
    """`<state>/increments/<name>.json`: every increment that was decided, oldest first."""

    name: str
    records: tuple[IncrementRecord, ...] = ()

    def of_run(self, run: str | None) -> IncrementRecord | None:
        """The record of a run."""
        return next((record for record in self.records if record.run == run), None)

    def learned(self, champion: str | None) -> tuple[IncrementRecord, ...]:
        """Increments that a champion has learned, oldest first: its own and those of the champions it came from.

        So a rollback needs no bookkeeping: what the champion in use did not come from is not among them.
        """
        line: list[IncrementRecord] = []
        found = self.of_run(champion)
        while found is not None and found not in line:
            line.append(found)
            found = self.of_run(found.parent)
        return tuple(reversed(line))
