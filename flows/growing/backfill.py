"""Go back over a stretch of files: one increment for each date (or file), in order, as if they had come one by one.

A file's place is the last date in its path (2026-03, 2026-03-01, 20260301), else its name. A month is all of its days: what
overlaps with the limits is taken. What the champion has learned is passed over; what was rejected or rolled back is offered
again.
"""

import re
from calendar import monthrange
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

from flows.growing.due import due, find_files
from schemas.errors import NoNewData, UserError
from schemas.spec.run import RunSpec

_DATE = re.compile(r"(?<!\d)((?:19|20)\d\d)([-_/.]?)(0[1-9]|1[0-2])(?:\2(0[1-9]|[12]\d|3[01]))?(?!\d)")
_DATED = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d))?)?$")
_NAMED = 5
"""Files that an error lists."""


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
    """Places from `start` to `stop`, both included, in order; 2026-03 as a limit, or of a file, is all of March.

    Raises:
        UserError: the specification does not grow, nothing lies there, or dates and names cannot be held against each other.
    """
    if spec.increments is None:
        fix = "add `increments: {}` to it, or use `rootstock run`"
        raise UserError("a backfill needs a specification with increments", "increments", fix)
    files = [file for found in find_files(spec) for file in found]
    for limit in filter(None, (start, stop)):
        _require_calendar(limit)
    limits = [place_of(limit) for limit in (start, stop) if limit is not None]
    if limits:
        _require_comparable(files, limits)
    first, last = (limit and place_of(limit) for limit in (start, stop))
    found = sorted({place_of(file) for file in files})
    inside = [
        place
        for place in found
        if (first is None or _days(place)[1] >= _days(first)[0])
        and (last is None or place.startswith(last) or _days(place)[0] <= _days(last)[1])
    ]
    if not inside:
        known = f"{found[0]} to {found[-1]}" if found else "none"
        raise UserError("no file lies between these limits", " to ".join(limits), f"there are: {known}")
    return inside


def _days(place: str) -> tuple[Any, Any]:
    """First and last day of a dated place; a name is its own."""
    date = _DATED.match(place)
    if date is None:
        return place, place
    year, month, day = date.groups()
    return (int(year), int(month or 1), int(day or 1)), (int(year), int(month or 12), int(day or 31))


def _require_calendar(limit: str) -> None:
    if (date := _DATED.match(limit)) is None:
        return
    year, month, day = (int(part or 1) for part in date.groups())
    if not (1 <= month <= 12 and 1 <= day <= monthrange(year, month)[1]):
        fix = "give a date of the calendar, such as 2026-02-28 or 2026-02"
        raise UserError("there is no such date", limit, fix)


def _require_comparable(files: Sequence[str], limits: Sequence[str]) -> None:
    """Refuse what would be left out only because a date and a name, or two dates of one file, do not compare."""
    dated = [limit for limit in limits if _DATED.match(limit)]
    if dated and len(dated) < len(limits):
        fix = "give two dates, or two file names"
        raise UserError("one limit is a date and the other is none", " to ".join(limits), fix)
    with_date = [file for file in files if _DATED.match(place_of(file))]
    if not dated and with_date:
        what = f"the limits are no dates, but {_listed(with_date)} {_have(with_date)} one"
        raise UserError(what, " to ".join(limits), "give dates, such as 2026-03 or 2026-03-01, as limits")
    without = [file for file in files if file not in set(with_date)]
    if dated and without:
        what = f"{_listed(without)} {_have(without)} no date in the path"
        fix = "put the date into the paths, such as data/2026-03-01.jsonl, or name files as limits"
        raise UserError(what, without[0], fix)
    several = [file for file in files if len(_dates(Path(file).name)) > 1]
    if dated and several:
        what = f"{_listed(several)} {_have(several)} more than one date in the name: which one counts is not told"
        raise UserError(what, several[0], "keep one date in the name, the first day or the month of its rows")


def _dates(name: str) -> set[str]:
    """The different dates of a name; one that is part of another is the same."""
    found = {place_of(match[0]) for match in _DATE.finditer(name)}
    return {date for date in found if not any(other.startswith(f"{date}-") for other in found)}


def _listed(files: Sequence[str]) -> str:
    more = f" and {len(files) - _NAMED} more" if len(files) > _NAMED else ""
    return ", ".join(files[:_NAMED]) + more


def _have(files: Sequence[str]) -> str:
    return "has" if len(files) == 1 else "have"


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
