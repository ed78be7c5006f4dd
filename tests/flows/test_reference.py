"""A second model that learns an increment alone: what it scores, what it is made of, and what it must not touch."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flows.growing import reference
from flows.growing.due import due
from flows.growing.reference import alone_spec, score_alone, wants_reference
from flows.progress.watch import Silent
from flows.run.dry_run import make_plan
from flows.run.journey import Outcome, call_plainly, follow
from schemas.errors import ExitCode, TrainingFailed
from schemas.results.watermark import IncrementRecord
from schemas.spec.run import RunSpec
from tasks.release.increments.watermark import load_watermark, scores_file
from tasks.training.train import train
from tests.corpora import here
from tests.flows.test_increments import TRADES, growing, once, rows, write

pytestmark = pytest.mark.slow
WITH = {"reference": True}


@dataclass(frozen=True)
class Chain:
    """The state after a first increment; the files of a second are there."""

    folder: Path

    def state(self, copy: Path) -> Path:
        return Path(shutil.copytree(self.folder / "state", copy / "state"))

    def spec(self, increments: dict[str, Any]) -> RunSpec:
        return growing(self.folder, increments=increments)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    folder = tmp_path_factory.mktemp("alone")
    write(folder / "new" / "0.txt", rows(TRADES[0], 80))
    once(growing(folder, increments=WITH), folder / "state")
    write(folder / "new" / "1.txt", rows(TRADES[1], 80))
    return Chain(folder)


@pytest.fixture(scope="module")
def second(chain: Chain, tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Path]:
    """The second increment with a model that learned it alone; and its state."""
    state = chain.state(tmp_path_factory.mktemp("with"))
    return once(chain.spec(WITH), state), state


def last(state: Path) -> IncrementRecord:
    return load_watermark(state, "trades").records[-1]


def trainings(state: Path) -> dict[str, int]:
    """Folder of every finished training -> when it became visible."""
    return {folder.name: folder.stat().st_mtime_ns for folder in state.glob("data/train-*")}


def test_it_scores_what_a_run_on_that_increment_alone_scores(
    second: tuple[Outcome, Path], tmp_path: Path
) -> None:
    write(tmp_path / "new" / "1.txt", rows(TRADES[1], 80))
    once(growing(tmp_path), tmp_path / "state")  # nothing was decided before
    fresh = last(tmp_path / "state")
    found = last(second[1])
    assert found.suites["increment-2"] == fresh.suites["increment-1"], "the same documents"
    assert found.alone == pytest.approx(fresh.scores["increment-1"], abs=1e-9)
    assert found.alone != found.scores["increment-2"]


def test_intransigence_is_then_known_of_every_increment(second: tuple[Outcome, Path]) -> None:
    outcome, state = second
    kept, record = json.loads(scores_file(state, "trades").read_bytes()), last(state)
    assert kept["references"] == [1, 2]
    assert record.alone is not None
    assert kept["intransigence"] == pytest.approx((record.scores["increment-2"] - record.alone) / 2)
    report = (outcome.folder / "report.html").read_text(encoding="utf-8")
    assert "known for 2 of 2 increments" in report


def test_without_it_no_further_model_is_trained_and_the_candidate_is_the_same(
    chain: Chain, second: tuple[Outcome, Path], tmp_path: Path
) -> None:
    state = chain.state(tmp_path)
    before = trainings(state)
    outcome = once(chain.spec({}), state)
    assert last(state).alone is None
    assert json.loads(scores_file(state, "trades").read_bytes())["references"] == [1]
    assert len(trainings(state)) == len(before) + 1
    assert len(trainings(second[1])) == len(before) + 2

    def key(folder: Path) -> Any:
        return json.loads((folder / "lineage.json").read_bytes())["steps"]["train"]

    assert key(outcome.folder) == key(second[0].folder), "it is no setting of the candidate's training"
    assert outcome.decision.rules == second[0].decision.rules


def test_a_kill_after_its_training_repeats_no_training(chain: Chain, tmp_path: Path) -> None:
    state, trained = chain.state(tmp_path), []

    def killed(function: Callable[..., Any], *arguments: Any, **settings: Any) -> Any:
        if len(trained) == 2:
            raise KeyboardInterrupt
        result = call_plainly(function, *arguments, **settings)
        trained.extend([function] if function is train else [])
        return result

    with pytest.raises(KeyboardInterrupt), due(chain.spec(WITH), state) as now:
        follow(now, state, Silent(), killed, here)
    before = trainings(state)
    once(chain.spec(WITH), state)
    assert trainings(state) == before
    assert last(state).alone is not None


def test_the_first_increment_is_learned_alone_by_its_candidate(chain: Chain) -> None:
    assert last(chain.folder / "state").alone is None
    assert len(trainings(chain.folder / "state")) == 1


def test_it_is_the_run_from_the_original_base_without_earlier_rows(chain: Chain, tmp_path: Path) -> None:
    with due(chain.spec(WITH), chain.state(tmp_path)) as now:
        pass
    alone = alone_spec(now)
    assert now.increment is not None
    assert alone.increment is not None
    assert (now.base_from, alone.base_from) == ("champion", None)
    assert alone.base == now.increment.original
    assert now.increment.past
    assert not alone.increment.past
    assert (alone.increment.new, alone.increment.consumed) == (now.increment.new, now.increment.consumed)
    same = ("method", "training", "remedies", "replay", "mixture", "evaluation")
    assert [getattr(alone, key) for key in same] == [getattr(now, key) for key in same]
    assert alone_spec(now.model_copy(update={"replay": ()})).mixture.replay_ratio == 0
    assert wants_reference(now)
    assert not wants_reference(alone)


def test_the_plan_tells_of_the_second_training(chain: Chain, tmp_path: Path) -> None:
    state = chain.state(tmp_path)
    for increments, told in ((WITH, True), ({}, False)):
        with due(chain.spec(increments), state) as now:
            assert ("second training" in make_plan(now, state, Silent())) == told


@pytest.mark.parametrize("code", [ExitCode.TRAINING_FAILED, ExitCode.TERMINATED])
def test_its_failure_stops_no_verdict_and_a_stop_is_obeyed(
    chain: Chain, monkeypatch: pytest.MonkeyPatch, code: ExitCode
) -> None:
    failure = TrainingFailed("the loss is not finite", "step 3", "lower training.learning_rate")
    failure.exit_code = code

    def fail(*_: Any) -> float:
        raise failure

    monkeypatch.setattr(reference, "learn_alone", fail)
    if code == ExitCode.TERMINATED:
        with pytest.raises(TrainingFailed):
            score_alone(Silent(), chain.spec(WITH))
    else:
        assert score_alone(Silent(), chain.spec(WITH)) is None
