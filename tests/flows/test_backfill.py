"""A backfill goes over the past place by place, in order."""

from contextlib import contextmanager
from pathlib import Path

import pytest

from flows import backfill as module
from flows.backfill import backfill, place_of, places, row_of
from schemas.errors import NoNewData, UserError
from schemas.run import RunSpec
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


def test_a_date_as_limit_needs_dates_in_all_paths(tmp_path: Path) -> None:
    spec = dated(tmp_path, "2026-02-28.jsonl", "laws.jsonl")
    with pytest.raises(UserError, match="1 files have no date in their path") as error:
        places(spec, "2026-01", None)
    assert error.value.where.endswith("laws.jsonl")
    assert places(spec, "a.jsonl", None) == ["laws.jsonl"]


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
