"""A backfill goes over the past place by place, in order."""

from contextlib import contextmanager
from pathlib import Path

import pytest

from flows.growing import backfill as module
from flows.growing.backfill import backfill, place_of, places, row_of
from schemas.errors import NoNewData, UserError
from schemas.spec.run import RunSpec
from tests.corpora import make_spec, source, write_rows


@pytest.mark.parametrize(
    ("file", "place"),
    [
        ("data/2026-03-01.jsonl", "2026-03-01"),
        ("data/20260301/a.txt", "2026-03-01"),
        ("data/2026/03/01/a.txt", "2026-03-01"),
        ("data/2026-03.txt", "2026-03"),
        ("v2024-01/report_2026_03_05.csv", "2026-03-05"),
        ("data/1234567890.txt", "1234567890.txt"),
        ("data/20261301.txt", "20261301.txt"),
        ("data/laws.txt", "laws.txt"),
    ],
)
def test_a_files_place_is_the_last_date_in_its_path_or_its_name(file: str, place: str) -> None:
    assert place_of(file) == place


def dated(folder: Path, *names: str) -> RunSpec:
    for name in names:
        write_rows(folder / "new" / name, [f"text of {name}"])
    return make_spec(domain=[source(folder / "new" / "*")], increments={})


def test_the_limits_are_included_and_a_month_is_all_of_its_days(tmp_path: Path) -> None:
    spec = dated(tmp_path, "2026-02-28.jsonl", "2026-03-01.jsonl", "2026-03-31.jsonl", "2026-04-01.jsonl")
    assert places(spec, "2026-03", "2026-03") == ["2026-03-01", "2026-03-31"]
    assert places(spec, "2026-03-31", None) == ["2026-03-31", "2026-04-01"]
    assert places(spec, None, "2026-02-28") == ["2026-02-28"]


MIXED = (
    "2026-02.jsonl",
    "2026-03.jsonl",
    "2026-03-01.jsonl",
    "2026-03-31.jsonl",
    "2026-04-15.jsonl",
    "2025-12-31.jsonl",
)


@pytest.mark.parametrize(
    ("start", "stop", "inside"),
    [
        ("2026-03-01", None, ["2026-03", "2026-03-01", "2026-03-31", "2026-04-15"]),
        ("2026-03-20", "2026-03-20", ["2026-03"]),
        ("2026-03-31", None, ["2026-03", "2026-03-31", "2026-04-15"]),
        (None, "2026-03-01", ["2025-12-31", "2026-02", "2026-03", "2026-03-01"]),
        (None, "2026-02-28", ["2025-12-31", "2026-02"]),
        ("2026-03", "2026-03", ["2026-03", "2026-03-01", "2026-03-31"]),
        ("2026-04-01", "2026-04-30", ["2026-04-15"]),
        ("2026", None, ["2026-02", "2026-03", "2026-03-01", "2026-03-31", "2026-04-15"]),
        (None, "2025", ["2025-12-31"]),
        ("20260331", "2026-03-31.jsonl", ["2026-03", "2026-03-31"]),
    ],
)  # fmt: skip
def test_a_month_and_a_day_that_overlap_are_both_taken(
    tmp_path: Path, start: str | None, stop: str | None, inside: list[str]
) -> None:
    assert places(dated(tmp_path, *MIXED), start, stop) == inside


@pytest.mark.parametrize(
    ("name", "limit", "what"),
    [
        ("laws.jsonl", "2026-01", "has no date in the path"),
        ("2026-3-1.jsonl", "2026-01", "has no date in the path"),
        ("2026-13-01.jsonl", "2026-01", "has no date in the path"),
        ("2026-01-01_2026-03-31.jsonl", "2026-01", "has more than one date in the name"),
        ("laws.jsonl", "a.jsonl", "the limits are no dates"),
    ],
)
def test_files_that_do_not_compare_with_the_limits_are_named_and_none_is_dropped(
    tmp_path: Path, name: str, limit: str, what: str
) -> None:
    spec = dated(tmp_path, "2026-02-28.jsonl", name)
    for limits in ((limit, None), (None, limit)):
        with pytest.raises(UserError, match=what) as error:
            places(spec, *limits)
        assert ("2026-02-28" if limit == "a.jsonl" else name) in error.value.what
    assert len(places(spec, None, None)) == 2


def test_names_are_limits_where_no_file_has_a_date_and_two_limits_are_of_one_kind(tmp_path: Path) -> None:
    spec = dated(tmp_path, "laws.jsonl", "acts.jsonl")
    assert places(spec, "b.jsonl", None) == ["laws.jsonl"]
    assert places(spec, None, "acts.jsonl") == ["acts.jsonl"]
    with pytest.raises(UserError, match="one limit is a date"):
        places(spec, "2026-01", "laws.jsonl")


@pytest.mark.parametrize("limit", ["2026-02-30", "2026-13", "2026-04-00"])
def test_a_date_that_is_in_no_calendar_is_a_mistake(tmp_path: Path, limit: str) -> None:
    with pytest.raises(UserError, match="there is no such date"):
        places(dated(tmp_path, "2026-03-01.jsonl"), limit, None)


def test_nothing_between_the_limits_and_a_specification_that_does_not_grow_are_mistakes(
    tmp_path: Path,
) -> None:
    with pytest.raises(UserError, match="no file lies between these limits") as error:
        places(dated(tmp_path, "2026-02-28.jsonl"), "2027-01", None)
    assert error.value.fix == "there are: 2026-02-28 to 2026-02-28"
    with pytest.raises(UserError, match="needs a specification with increments"):
        places(make_spec(), None, None)


def test_each_place_is_one_increment_in_order_and_what_is_learned_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = dated(tmp_path, "2026-03-02.jsonl", "2026-03-01.jsonl", "2026-03-03.jsonl")
    asked = []

    @contextmanager
    def due(spec, state, again, chosen):
        files = sorted(file.name for file in (tmp_path / "new").iterdir() if chosen(str(file)))
        asked.append((files, again))
        if files == ["2026-03-02.jsonl"]:
            raise NoNewData("learned", "", "")
        yield spec

    monkeypatch.setattr(module, "due", due)
    found = list(backfill(spec, tmp_path, None, None, lambda now: "followed"))
    assert asked == [([f"2026-03-0{day}.jsonl"], True) for day in (1, 2, 3)]
    assert [(filled.place, filled.outcome) for filled in found] == [
        ("2026-03-01", "followed"), ("2026-03-02", None), ("2026-03-03", "followed"),
    ]  # fmt: skip
    assert row_of("2026-03-02", None)["verdict"] == "nothing new"
