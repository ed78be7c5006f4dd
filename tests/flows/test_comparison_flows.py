"""The flows `compare-methods` and `compare-remedies`: side by side, in processes of their own, and never twice."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from prefect import flow

from flows.compare_methods import compare_methods
from flows.compare_remedies import compare_remedies_flow
from flows.comparing.cells import Job
from flows.orchestration import cells_as_tasks
from schemas.errors import MachineFailed
from schemas.results.comparison import Trained
from tests.command_line import environment
from tests.corpora import make_spec
from tests.flows.test_compare import place
from tests.tiny import artifacts_of, ended

__all__ = ["place"]

pytestmark = pytest.mark.usefixtures("prefect_api")
COMPARISON = """\
name: small
spec: tiny.yaml
methods: [{kind: full}, {kind: lora, r: 4}, {kind: lora, r: 2}]
learning_rates: [1.0e-2]
search_seed: 1
seeds: [1]
"""
REMEDIES = """\
name: small
spec: tiny.yaml
overrides: [training.learning_rate=0.01]
candidates: [{name: nothing}, {name: gentle, set: [training.learning_rate=0.001]}]
seeds: [1]
"""
SECONDS = 600


@dataclass
class Trainings:
    """Processes of trainings below this one, as seen while they ran."""

    at_once: int = 0
    jobs: set[str] = field(default_factory=set)
    """Ids of the runs that were trained."""

    def look(self) -> None:
        found = []
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                found += [Path(a).stem for a in process.cmdline() if a.endswith(".job")]
        self.at_once = max(self.at_once, len(found))
        self.jobs |= set(found)


@contextlib.contextmanager
def watched() -> Iterator[Trainings]:
    seen, over = Trainings(), threading.Event()

    def look() -> None:
        while not over.wait(0.05):
            seen.look()

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def kill_after_one_training(place: Path) -> Path:
    """Start the comparison, and kill it as soon as it has a result; return that."""
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.cli.main", "compare", "small.yaml"],
        cwd=place, env=environment(), start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + SECONDS
    while not (done := list(place.glob(".rootstock/compare/small/cells/*.json"))):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    (file,) = done
    return file


@pytest.mark.slow
def test_a_killed_comparison_goes_on_under_prefect_with_its_trainings_side_by_side(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "small.yaml").write_text(COMPARISON)
    monkeypatch.chdir(place)
    finished = kill_after_one_training(place)
    before = finished.stat().st_mtime_ns
    with watched() as seen:
        run = ended(compare_methods(spec="small.yaml", parallel=2, return_state=True))
    assert (run.state_type.value, run.name) == ("COMPLETED", "compare small"), run.state
    assert finished.stat().st_mtime_ns == before
    results = {file.stem for file in finished.parent.glob("*.json")}
    assert len(results) == 3
    assert seen.jobs == results - {finished.stem}, "what was finished is not trained again"
    assert seen.at_once == 2
    folder = place / ".rootstock" / "compare" / "small"
    assert artifacts_of(run.id)["small-comparison"].data == (folder / "table.md").read_text()
    assert [row["refused"] for row in json.loads((folder / "comparison.json").read_bytes())["rows"]] == [None] * 3  # fmt: skip
    with watched() as again:
        assert ended(compare_methods(spec="small.yaml", return_state=True)).state_type.value == "COMPLETED"
    assert again.jobs == set()


@pytest.mark.slow
def test_a_comparison_of_remedies_has_its_table_on_the_page(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "small.yaml").write_text(REMEDIES)
    monkeypatch.chdir(place)
    with watched() as seen:
        run = ended(compare_remedies_flow(spec="small.yaml", parallel=2, return_state=True))
    assert run.state_type.value == "COMPLETED", run.state
    assert seen.at_once == 2
    table = artifacts_of(run.id)["small-comparison"].data
    assert "| nothing |" in table
    assert "| gentle |" in table
    assert (place / ".rootstock" / "remedies" / "small" / "index.html").is_file()


@pytest.mark.parametrize("compared", [compare_methods, compare_remedies_flow], ids=["methods", "remedies"])
def test_a_mistake_in_a_comparison_fails_with_its_three_lines(compared: Any, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("name: small\nspec: tiny.yaml\nmethdos: []\n")
    run = ended(compared(spec=str(tmp_path / "bad.yaml"), state=str(tmp_path), return_state=True))
    assert run.state_type.value == "FAILED"
    assert "bad.yaml" in run.state.message
    assert "  fix: " in run.state.message


JOBS: list[Job] = [(name, make_spec()) for name in ("slow", "quick", "last")]


def run_jobs(parallel: int) -> list[Trained]:
    @flow
    def compared() -> list[str | None]:
        results = cells_as_tasks.run_tasks(parallel)(JOBS, Path("state"), Path("folder"))
        return [result.refused for result in results]

    return compared()


def test_a_slow_training_does_not_hold_up_those_that_come_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    slow_began, last_began, running, most = threading.Event(), threading.Event(), set(), []

    def train(job: Job, *_: Any) -> Trained:
        if job[0] == "slow":
            slow_began.set()
        else:
            assert slow_began.wait(60), "`slow` came first"
        running.add(job[0])
        most.append(len(running))
        if job[0] == "last":
            last_began.set()
        elif job[0] == "slow":
            assert last_began.wait(60), "`last` waits for `slow`"
        running.remove(job[0])
        return Trained(refused=job[0])

    monkeypatch.setattr(cells_as_tasks, "run_cell", train)
    assert run_jobs(2) == ["slow", "quick", "last"], "results stand in the order of the jobs"
    assert max(most) == 2


def test_a_training_that_fails_ends_the_comparison_with_its_own_mistake(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failed = MachineFailed("a training of the comparison died", "quick", "run the same command again")

    def train(job: Job, *_: Any) -> Trained:
        if job[0] == "quick":
            raise failed
        return Trained(refused=job[0])

    monkeypatch.setattr(cells_as_tasks, "run_cell", train)
    with pytest.raises(MachineFailed) as error:
        run_jobs(1)
    assert error.value.where == "quick"
