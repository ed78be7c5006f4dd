"""A remedy is marked as experimental where, and only where, no gain beyond training less was measured."""

import json
from pathlib import Path

import pytest

from docs.measured import CANDIDATES, _read, shown_to_help
from tasks.training.remedies.registry import ELSEWHERE, REMEDIES
from tests.command_line import rootstock

ROOT = Path(__file__).parents[2]

MARKS = {kind: entry.experimental for kind, entry in REMEDIES.items()} | {
    setting.name: setting.experimental for setting in ELSEWHERE
}


def test_every_remedy_says_where_it_was_measured() -> None:
    assert list(CANDIDATES) == list(MARKS)
    found = _read("remedies.json")
    assert found is not None
    names = {c["name"] for c in found["comparison"]["candidates"] if not c["control"]}
    named = [name for candidates in CANDIDATES.values() for name in candidates]
    assert len(set(named)) == len(named)
    assert set(named) <= names


@pytest.mark.parametrize("remedy", MARKS)
def test_a_mark_is_what_was_measured(remedy: str) -> None:
    helps = shown_to_help(remedy)
    assert bool(MARKS[remedy]) == (helps is not True)
    assert (MARKS[remedy] == "not measured") == (helps is None)


def test_the_command_line_and_the_page_show_the_marks() -> None:
    listed = json.loads(rootstock("remedies", "--json", cwd=ROOT).out)
    assert [row["experimental"] for row in listed] == list(MARKS.values())
    page = (ROOT / "docs" / "forgetting.md").read_text(encoding="utf-8")
    tables = page.split("## What they do, measured")[0]
    ends = [line.split(" | ")[-1].removesuffix(" |") for line in tables.splitlines() if line.startswith("| ")]
    shown = [end for end in ends if end not in ("experimental", "---")]
    assert shown == [mark or "-" for mark in MARKS.values()]


def test_the_rig_forgets_and_its_placebo_does_not_help() -> None:
    found = _read("remedies.json")
    assert found is not None
    rows = {row["label"]: row for row in found["rows"]}
    assert all(interval["low"] >= 0.3 for interval in rows["no remedy"]["forgetting"].values())
    for name in ("placebo (domain text in place of replay)", "Chinese as replay"):
        assert all(interval["low"] <= 0 for interval in rows[name]["kept"].values()), name
