"""SIGTERM, Ctrl-C and a closed terminal in every stage of a plain run: a word, a documented code, and the next start goes on."""

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tasks.training.loop.checkpoints import list_checkpoints
from tests.command_line import environment
from tests.tiny import write_tiny

CODES = {signal.SIGTERM: 143, signal.SIGHUP: 143, signal.SIGINT: 130}
RUN = [sys.executable, "-m", "flows.cli.main", "run", "tiny.yaml", "--no-prefect"]


def start(files: Path, *more: str, before: Callable[[], object] = lambda: None) -> subprocess.Popen[str]:
    def prepare() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # ignored where tests run behind `&`
        before()

    return subprocess.Popen(
        [*RUN, *more], cwd=files, env=environment(), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        preexec_fn=prepare,
    )  # fmt: skip


def wait_for(process: subprocess.Popen[str], words: str) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            return
    raise AssertionError(f"it ended before it said {words!r}")


def checkpoints(files: Path) -> list[Path]:
    return [
        step
        for folder in (files / ".rootstock" / "data").glob(".train-*.work/checkpoints")
        for step in list_checkpoints(folder)
    ]


def test_asked_to_end_outside_of_training_it_says_so(tmp_path: Path) -> None:
    files = write_tiny(tmp_path)
    process = start(files)
    wait_for(process, "data: read")
    process.terminate()
    assert process.stderr is not None
    rest = process.stderr.read()
    assert process.wait(60) == 143, rest
    assert rest.splitlines()[-1] == "stopped by SIGTERM; the same command goes on where it was"
    assert "Traceback" not in rest


@pytest.mark.slow
def test_each_signal_in_each_stage_once_and_twice_and_ignored(tmp_path: Path) -> None:
    files = write_tiny(tmp_path, copies=3)
    long = ("--set", "training.steps=400")
    stops = [
        ("data: read", signal.SIGHUP, 1), ("tokenise and mix", signal.SIGINT, 2), ("  step ", signal.SIGINT, 1),
        ("  step ", signal.SIGTERM, 2), ("score the candidate", signal.SIGINT, 1),
    ]  # fmt: skip
    reached = 0
    for words, number, times in stops:
        process = start(files, *long)
        wait_for(process, words)
        children = psutil.Process(process.pid).children(recursive=True)
        for _ in range(times):
            os.kill(process.pid, number)
            time.sleep(0.001)
        assert process.stderr is not None
        rest = process.stderr.read()
        code = process.wait(120)
        assert code == CODES[number], (words, number, rest)
        assert "Traceback" not in rest, rest
        assert "stop" in rest.splitlines()[-1] or "checkpoint" in rest, rest
        _, left = psutil.wait_procs(
            children, timeout=20
        )  # one that still imports sees the end a moment later
        assert not [(child.cmdline(), words, number) for child in left]
        if words == "  step " and times == 1:
            assert "error: training was asked to stop; a checkpoint was written" in rest
            last = checkpoints(files)[-1].name
            assert int(last.split("-")[1]) > reached, "the next start goes on from there"
            reached = int(last.split("-")[1])
    process = start(files, *long, before=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    wait_for(process, "score the candidate")
    os.kill(process.pid, signal.SIGHUP)
    assert process.stderr is not None
    rest = process.stderr.read()
    assert process.wait(120) in (0, 10, 11), rest  # as with nohup


@pytest.mark.slow
def test_a_closed_terminal_leaves_a_checkpoint(tmp_path: Path) -> None:
    files = write_tiny(tmp_path)
    child, terminal = pty.fork()
    if child == 0:  # in a terminal of its own
        os.chdir(files)
        os.execve(sys.executable, [*RUN, "--set", "training.steps=100000"], environment())
    shown = b""
    while b"step 1" not in shown:
        shown += os.read(terminal, 4096)
    os.close(terminal)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 143
    assert checkpoints(files)
