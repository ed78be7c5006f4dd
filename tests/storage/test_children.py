"""A child process ends when the one that started it is killed, and never starts its work if it already was."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

CHILD = """
import functools, os, subprocess, sys, time
from tasks.storage.children import die_with
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], preexec_fn=functools.partial(die_with, {parent}))
print(child.pid, flush=True)
time.sleep(60)
"""


def start(parent: str) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD.format(parent=parent)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def ended(pid: int) -> bool:
    """Gone, or a zombie that nobody has waited for."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(") ")[2].startswith("Z")
    except FileNotFoundError:
        return True


def wait_for_end(pid: int) -> bool:
    deadline = time.monotonic() + 30
    while not ended(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return ended(pid)


def test_a_child_is_killed_with_its_parent():
    process, child = start("os.getpid()")
    try:
        time.sleep(0.3)
        assert not ended(child)
        process.kill()
        process.wait()
        assert wait_for_end(child)
    finally:
        if not ended(child):
            os.kill(child, signal.SIGKILL)


def test_a_child_whose_parent_is_already_another_ends_at_once():
    process, child = start("1")
    try:
        assert wait_for_end(child)
    finally:
        process.kill()
        process.wait()
