"""Go back over a stretch of files: one increment for each date (or file), in order, as if they had come one by one.

A file's place is the last date in its path (2026-03, 2026-03-01, 20260301), else its name. What the champion has learned is
passed over; what was rejected or rolled back is offered again.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

from flows.increments import due, find_files
from schemas.errors import NoNewData, UserError
from schemas.run import RunSpec

_DATE = re.compile(r"(?<!\d)((?:19|20)\d\d)([-_/.]?)(0[1-9]|1[0-2])(?:\2(0[1-9]|[12]\d|3[01]))?(?!\d)")
_DATED = re.compile(r"\d{4}-\d\d(-\d\d)?$")


class Filled(NamedTuple):
    """What became of one place."""

    place: str
    outcome: Any
    """None: nothing new there."""


def place_of(file: str) -> str:
    """Where a file stands in the order: its date as YYYY-MM or YYYY-MM-DD, else its name."""
    dates = list(_DATE.finditer(file))
    if not dates:
        return Path(file).name
    year, _, month, day = dates[-1].groups()
    return f"{year}-{month}" + (f"-{day}" if day else "")


def places(spec: RunSpec, start: str | None, stop: str | None) -> list[str]:
    """Places from `start` to `stop`, both included, in order; 2026-03 as `stop` includes all of March.

    Raises:
        UserError: the specification does not grow, or nothing lies there, or a limit is a date and a file has none.
    """
    if spec.increments is None:
        fix = "add `increments: {}` to it, or use `rootstock run`"
        raise UserError("a backfill needs a specification with increments", "increments", fix)
    files = [file for found in find_files(spec) for file in found]
    limits = [limit for limit in (start, stop) if limit is not None]
    dateless = [file for file in files if not _DATED.match(place_of(file))]
    if dateless and any(_DATED.match(limit) for limit in limits):
        fix = "put the date into the paths, such as data/2026-03-01.jsonl, or name files as limits"
        raise UserError(f"{len(dateless)} files have no date in their path", dateless[0], fix)
    found = sorted({place_of(file) for file in files})
    inside = [p for p in found if (start is None or p >= start) and (stop is None or p[: len(stop)] <= stop)]
    if not inside:
        known = f"{found[0]} to {found[-1]}" if found else "none"
        raise UserError("no file lies between these limits", " to ".join(limits), f"there are: {known}")
    return inside


def backfill(
    spec: RunSpec,
    state: Path,
    start: str | None,
    stop: str | None,
    follow_one: Callable[[RunSpec], Any],
) -> Iterator[Filled]:
    """Yield what became of each place, in order; `follow_one` follows one increment to its verdict."""
    for place in places(spec, start, stop):
        yield Filled(place, _fill(due(spec, state, again=True, chosen=_stands_at(place)), follow_one))


def _stands_at(place: str) -> Callable[[str], bool]:
    return lambda file: place_of(file) == place


def _fill(waiting: AbstractContextManager[RunSpec], follow_one: Callable[[RunSpec], Any]) -> Any:
    try:
        with waiting as now:
            return follow_one(now)
    except NoNewData:
        return None


def row_of(place: str, outcome: Any) -> dict[str, str]:
    """A line of the table."""
    if outcome is None:
        return {"place": place, "verdict": "nothing new", "run": "", "why": ""}
    decision = outcome.decision
    return {"place": place, "verdict": decision.verdict, "run": outcome.run, "why": decision.sentence}
