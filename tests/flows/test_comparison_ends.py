"""A comparison ends with its first failure, or when it is asked to: nothing more begins, what is finished is kept."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from flows.comparing.handed_back import read_error, write_error
from schemas.errors import ContractFailed, ExitCode, MachineFailed, TrainingFailed, UserError, UserErrors
from tests.command_line import environment, rootstock
from tests.flows.test_compare import place

__all__ = ["place"]
SECONDS = 600
REMEDIES = """\
name: small
spec: tiny.yaml
candidates: [{name: nothing}, {name: gentle, set: [training.learning_rate=0.001]}]
seeds: [1, 2]
"""


def asked_to_stop() -> TrainingFailed:
    error = TrainingFailed("asked to stop", "step 3", "run again")
    error.exit_code = ExitCode.TERMINATED
    return error


@pytest.mark.parametrize(
    "error",
    [
        UserError("a", "b", "c"),
        ContractFailed("a", "b\n  fix: not this", "c"),
        MachineFailed("第", "b", "c"),
        asked_to_stop(),
        UserErrors([UserError("a", "b", "c"), UserError("d", "e", "f")]),
    ],
)
def test_an_error_crosses_to_the_parent_as_it_was(error: UserError, tmp_path: Path) -> None:
    write_error(tmp_path / "error", error)
    back = read_error(tmp_path / "error")
    assert type(back) is type(error)
    assert (str(back), back.exit_code) == (str(error), error.exit_code)
    assert read_error(tmp_path / "none") is None


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["compare", "compare-remedies"])
def test_the_first_failure_ends_a_comparison_with_its_own_exit_code(verb: str, place: Path) -> None:
    (place / "domain.jsonl").write_text('{"text": "broken \\ufffd text"}\n' * 30)
    if verb == "compare-remedies":
        (place / "small.yaml").write_text(REMEDIES)
    done = rootstock(verb, "small.yaml", cwd=place)
    assert done.code == ExitCode.CONTRACT_FAILED, done.err
    [(what, _, fix)] = done.errors
    assert "text_decoded" in what
    assert fix.startswith("mend the data, then see the whole report with: rootstock check domain_text")
    kind = "compare" if verb == "compare" else "remedies"
    cells = list((place / ".rootstock" / kind / "small" / "cells").iterdir())
    assert [file.suffix for file in cells] == [".log"], "one was begun, and its log is kept"


def until(found: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + SECONDS
    while not found():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def trainings(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if any(argument.endswith(".job") for argument in child.cmdline())
    ]


def begin(place: Path) -> subprocess.Popen[str]:
    """Start a comparison of long trainings, two at a time; return when both train."""
    long = (place / "tiny.yaml").read_text().replace("steps: 6", "steps: 3000, checkpoint_every: 3000")
    (place / "tiny.yaml").write_text(long)
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "flows.cli.main", "compare", "small.yaml", "--parallel", "2"],
        cwd=place, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    metrics = place / ".rootstock/data"
    until(
        lambda: len([f for f in metrics.glob(".train-*.work/metrics.jsonl") if f.stat().st_size]) == 2,
        process,
    )
    return process


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_comparison_that_is_asked_to_stop_stops_its_trainings_and_begins_none(
    number: int, place: Path
) -> None:
    process = begin(place)
    running = trainings(process)
    assert len(running) == 2
    os.kill(process.pid, number)
    _, told = process.communicate(timeout=SECONDS)
    assert process.returncode in ((130,) if number == signal.SIGINT else (143, -signal.SIGTERM)), told
    _gone, alive = psutil.wait_procs(running, timeout=60)
    assert not alive
    cells = place / ".rootstock/compare/small/cells"
    assert len(list(cells.glob("*.log"))) == 2, "no third was begun"
    assert not list(cells.glob("*.json"))
    if process.returncode > 0:  # not killed with its parent: a step and its checkpoint were finished
        assert len(list((place / ".rootstock/data").glob(".train-*.work/checkpoints/step-*"))) == 2
        assert not list(cells.glob("*.job"))


@pytest.mark.slow
def test_a_training_that_is_killed_stops_the_other_and_is_no_defect_of_ours(place: Path) -> None:
    process = begin(place)
    killed, other = trainings(process)
    killed.kill()
    _, told = process.communicate(timeout=SECONDS)
    assert process.returncode == ExitCode.MACHINE_FAILED, told
    assert "a training of the comparison died without a word (SIGKILL)" in told
    assert "  fix: see " in told
    assert not other.is_running()
    assert len(list((place / ".rootstock/data").glob(".train-*.work/checkpoints/step-*"))) == 1
