"""`rootstock run` under Prefect with a server of its own: what the terminal, the exit code and the page say."""

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.command_line import environment, rootstock
from tests.tiny import write_tiny

pytestmark = pytest.mark.slow


def flow_runs(state: Path) -> list[tuple[str, str, str]]:
    """(name, state's name, state's message) of every flow run in Prefect's own database, oldest first."""
    with sqlite3.connect(f"file:{state}/prefect/prefect.db?mode=ro", uri=True) as database:
        return database.execute(
            "select run.name, state.name, state.message from flow_run run"
            " join flow_run_state state on state.id = run.state_id order by run.created"
        ).fetchall()


def task_states(state: Path) -> dict[str, str]:
    with sqlite3.connect(f"file:{state}/prefect/prefect.db?mode=ro", uri=True) as database:
        return dict(database.execute("select name, state_name from task_run order by created").fetchall())


def children_named(word: str) -> list[str]:
    return [" ".join(p.info["cmdline"]) for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] and word in " ".join(p.info["cmdline"])]  # fmt: skip


def test_a_run_is_quiet_on_the_terminal_and_whole_on_the_page(tmp_path: Path) -> None:
    files = write_tiny(tmp_path)
    done = rootstock("run", "tiny.yaml", cwd=files, timeout=500)
    assert done.code == 0, done.err
    assert done.out.rstrip().endswith("verdict: promote")
    assert "Prefect's server" in done.err.split("\n")[0]
    assert "train (full)" in done.err
    assert "Traceback" not in done.err
    assert " | INFO" not in done.err
    state = files / ".rootstock"
    [(name, ended, _)] = flow_runs(state)
    assert (state / "runs" / name).is_dir()
    assert ended == "Promoted"
    assert set(task_states(state).values()) == {"Completed"}, (
        "every task's end reached the server before it stopped"
    )
    assert not children_named(str(tmp_path))

    (files / "domain.txt").write_text("q7z\n" * 200)
    done = rootstock("run", "tiny.yaml", cwd=files, timeout=500)
    assert done.code == 1
    what, where, fix = done.err.rstrip().split("\n")[-3:]
    assert what.startswith("error: ")
    assert "contract" in what
    assert where.startswith("  where: ")
    assert fix.startswith("  fix: ")
    assert "Traceback" not in done.err
    _, ended, message = flow_runs(state)[-1]
    assert ended == "Failed"
    assert message == f"{what.removeprefix('error: ')}\n{where}\n{fix}"


def test_a_run_that_is_asked_to_stop_keeps_a_checkpoint_and_is_cancelled(tmp_path: Path) -> None:
    files = write_tiny(tmp_path)
    command = [sys.executable, "-m", "flows.cli.main", "run", "tiny.yaml", "--set", "training.steps=5000"]
    process = subprocess.Popen(command, cwd=files, env=environment(), stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("  step "):
            break
    os.kill(process.pid, signal.SIGTERM)
    rest = process.stderr.read()
    assert process.wait(120) == 143, rest
    assert "error: training was asked to stop; a checkpoint was written" in rest
    state = files / ".rootstock"
    assert list(state.glob("data/.train-*.work/checkpoints/step-*"))
    [(_, ended, message)] = flow_runs(state)
    assert ended == "Cancelled"
    assert message.startswith("training was asked to stop")
