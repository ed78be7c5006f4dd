"""A candidate is measured against the champion in use, and against no other when it is released."""

from pathlib import Path

import pytest

from schemas.errors import UserError
from tasks.release.promotion.promotion import promote
from tasks.release.registry import incumbent
from tasks.release.registry import versions as registry


def test_before_any_promotion_there_is_no_incumbent(state: Path, make_run) -> None:
    run = make_run("medical-1")
    incumbent.pin(state, "medical", run)
    assert incumbent.model_folder(state, "medical", run) is None
    incumbent.require_in_use(state, "medical", run)


def test_the_champion_is_pinned_with_its_model(state: Path, make_run) -> None:
    first, second = make_run("medical-1"), make_run("medical-2")
    promote(state, first)
    assert incumbent.model_folder(state, "medical", second).resolve() == (first / "model").resolve()
    incumbent.pin(state, "medical", second)
    assert incumbent.model_folder(state, "medical", second).resolve() == (first / "model").resolve()
    assert incumbent.began_with(second) == registry.champion(state, "medical").weights_sha256


def test_the_turn_counts_what_was_decided_before_and_stays_when_a_run_goes_on(state: Path, make_run) -> None:
    first, killed = make_run("medical-1"), make_run("medical-2")
    incumbent.pin(state, "medical", first)
    assert incumbent.turn_of(first) == 0
    promote(state, first)
    incumbent.pin(state, "medical", killed)
    assert incumbent.turn_of(killed) == 1
    promote(state, make_run("medical-3"))
    incumbent.pin(state, "medical", killed)
    assert incumbent.turn_of(killed) == 1


def test_an_attempt_that_goes_on_later_is_measured_against_the_newest(state: Path, make_run) -> None:
    first, second, killed = (make_run(f"medical-{n}") for n in (1, 2, 3))
    promote(state, first)
    incumbent.pin(state, "medical", killed)
    promote(state, second)
    incumbent.pin(state, "medical", killed)
    assert incumbent.model_folder(state, "medical", killed).resolve() == (second / "model").resolve()


def test_a_run_killed_after_its_promotion_keeps_what_it_was_measured_against(state: Path, make_run) -> None:
    first, killed = make_run("medical-1"), make_run("medical-2")
    promote(state, first)
    incumbent.pin(state, "medical", killed)
    promote(state, killed)
    incumbent.pin(state, "medical", killed)
    assert incumbent.model_folder(state, "medical", killed).resolve() == (first / "model").resolve()
    incumbent.require_in_use(state, "medical", killed)
    (killed / "complete.json").write_text("{}")
    assert incumbent.began_with(killed) is None


def test_what_was_measured_against_a_champion_of_the_past_is_not_released(state: Path, make_run) -> None:
    first, second, slow = (make_run(f"medical-{n}") for n in (1, 2, 3))
    promote(state, first)
    incumbent.pin(state, "medical", slow)
    promote(state, second)
    with pytest.raises(UserError) as caught:
        incumbent.require_in_use(state, "medical", slow)
    assert caught.value.what == "while this run was going, medical-2 became champion of 'medical'"
    assert caught.value.where == str(slow)
    assert caught.value.fix.startswith("run the same command again")
