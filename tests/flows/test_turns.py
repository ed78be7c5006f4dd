"""Of what is served on one machine, one run trains at a time."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect import Flow, flow

from flows.backfill import backfill_flow
from flows.choose_replay import choose_replay_flow
from flows.compare_methods import compare_methods
from flows.compare_remedies import compare_remedies_flow
from flows.continual_training import continual_training
from flows.orchestration import turns
from schemas.errors import UserError
from tasks.release.run.run_folder import dump_yaml
from tasks.storage.steps import hold
from tests.command_line import ROOT, environment
from tests.flows.test_compare import COMPARISON, place
from tests.flows.test_comparison_flows import REMEDIES
from tests.flows.test_increments import TRADES, growing, rows, write

__all__ = ["place"]

pytestmark = pytest.mark.usefixtures("prefect_api")
HOLD = """
import sys, time
from pathlib import Path
from tasks.storage.steps import hold
with hold(Path(sys.argv[1]), sys.argv[2]):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process whose turn it is to train."""
    command = [sys.executable, "-c", HOLD, str(tmp_path), turns.TURN]
    with subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs believe that a deployment started them."""
    monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__ID", "5f6e8a4e-3a3c-4b39-9d5c-000000000001")


class Log:
    """Takes the line of a run that waits, and then does something."""

    def __init__(self, then: Any):
        self.lines: list[str] = []
        self.then = then

    def info(self, line: str) -> None:
        self.lines.append(line)
        self.then()


@flow
def trains(state: Path) -> str:
    with turns.turn_to_train(state):
        return "trained"


def test_a_served_run_waits_with_one_line_until_the_one_that_trains_is_dead(
    tmp_path: Path, holder: subprocess.Popen[str], served: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Log(holder.kill)
    monkeypatch.setattr(turns, "get_run_logger", lambda: log)
    assert trains(tmp_path) == "trained"
    assert log.lines == ["another served run trains: waiting for it"]
    assert trains(tmp_path) == "trained"
    assert len(log.lines) == 1


def test_a_run_that_somebody_calls_himself_waits_for_no_one(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    assert trains(tmp_path) == "trained"
    assert holder.poll() is None


def spec_for(training: Flow[..., Any], folder: Path) -> Path:
    """A specification, or a comparison, that this flow would train."""
    if training in (compare_methods, compare_remedies_flow):
        text = COMPARISON if training is compare_methods else REMEDIES
        (folder / "small.yaml").write_text(text)
        return folder / "small.yaml"
    write(folder / "new" / "2026-01.txt", rows(TRADES[0], 80))
    values = growing(folder).model_dump(mode="json", exclude_none=True)
    if training is choose_replay_flow:
        del values["increments"]
    (folder / "grown.yaml").write_text(dump_yaml(values))
    return folder / "grown.yaml"


TRAINING = [continual_training, backfill_flow, choose_replay_flow, compare_methods, compare_remedies_flow]


def test_serve_knows_which_flows_take_a_turn() -> None:
    assert {flow.name for flow in TRAINING} == turns.TRAINS


@pytest.mark.parametrize("training", TRAINING, ids=lambda flow: flow.name)
def test_every_flow_that_trains_takes_its_turn_before_it_does_anything(
    training: Flow[..., Any],
    place: Path,
    tmp_path_factory: pytest.TempPathFactory,
    served: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def give_up() -> None:
        raise UserError("it waited", "here", "do not wait")

    monkeypatch.setattr(turns, "get_run_logger", lambda: Log(give_up))
    monkeypatch.chdir(place)
    state = tmp_path_factory.mktemp("state")
    with hold(state, turns.TURN):
        final = training(spec=str(spec_for(training, place)), state=str(state), return_state=True)
    assert final.message == "it waited\n  where: here\n  fix: do not wait"
    assert [file.name for file in state.iterdir()] == ["locks"]
