"""What of the data was consumed by which increment."""

from schemas.base import Schema
from schemas.results.artifacts import Verdict
from schemas.results.scores import Unit


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
