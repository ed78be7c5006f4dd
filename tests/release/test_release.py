"""A release moves champion and watermark together; what a killed one had begun, the next reader finishes."""

from pathlib import Path

import pytest

from tasks.release.increments.watermark import load_watermark
from tasks.release.promotion import intent, promotion
from tasks.release.registry import versions as registry
from tests.release.conftest import MakeRun
from tests.release.test_release_kill import draft


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours catches it."""


@pytest.fixture
def two(state: Path, make_run: MakeRun) -> Path:
    """The first increment is champion, the second is decided and not released."""
    one = make_run("one")
    draft(one, 1, None, "promote")
    promotion.promote(state, one)
    draft(make_run("two"), 2, "one", "promote")
    return state


def end(state: Path) -> tuple[str, list[str]]:
    champion = registry.champion(state, "medical")
    assert champion is not None
    return champion.run_id, [record.run for record in load_watermark(state, "medical").records]


@pytest.mark.parametrize("where", ["register", "set_champion", "save_watermark"])
def test_a_release_killed_half_way_is_finished_by_whoever_reads_next(
    two: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def die(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(intent if where == "save_watermark" else registry, where, die)
        with pytest.raises(Killed):
            promotion.promote(two, two / "runs" / "two")
    promotion.settle(two, "medical")
    assert end(two) == ("two", ["one", "two"])
    assert (two / "runs/two/complete.json").is_file()


def test_a_rollback_finishes_a_killed_release_first_and_then_moves_only_the_champion(
    two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(intent, "save_watermark", die)
        with pytest.raises(Killed):
            promotion.promote(two, two / "runs" / "two")
    assert promotion.rollback(two, "medical").run_id == "one"
    promotion.settle(two, "medical")
    assert end(two) == ("one", ["one", "two"])


def test_the_check_is_made_at_the_moment_of_the_release_and_stops_it(two: Path) -> None:
    def refuse() -> None:
        assert end(two) == ("one", ["one"])
        raise Killed

    with pytest.raises(Killed):
        promotion.promote(two, two / "runs" / "two", check=refuse)
    promotion.settle(two, "medical")
    assert end(two) == ("one", ["one"])


def test_a_challenger_moves_the_watermark_only_when_a_person_promotes_it(two: Path) -> None:
    promotion.nominate(two, two / "runs" / "two")
    assert end(two) == ("one", ["one"])
    promotion.promote(two, two / "runs" / "two")
    assert end(two) == ("two", ["one", "two"])


@pytest.mark.parametrize(("outcome", "consumed"), [("fail", ["one", "three"]), ("undecided", ["one"])])
def test_a_rejected_increment_is_consumed_and_an_inconclusive_one_is_not(
    two: Path, make_run: MakeRun, outcome: str, consumed: list[str]
) -> None:
    run = make_run("three", outcome)
    draft(run, 2, "one", "reject" if outcome == "fail" else "inconclusive")
    promotion.refuse(two, run)
    assert end(two) == ("one", consumed)
