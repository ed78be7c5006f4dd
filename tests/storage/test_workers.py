"""Worker processes keep the order, pass errors on, and never outlive their parent."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from schemas.errors import MachineFailed, UserError, UserErrors, WorkerKilled
from tasks.storage.cores import num_cores
from tasks.storage.workers import map_in_processes


def square(value: int) -> tuple[int, int]:
    return value * value, os.getpid()


def refuse(value: int) -> int:
    if value == 2:
        raise UserError("what", "where", "fix")
    return value


@pytest.mark.skipif(num_cores() < 2, reason="this machine has one core: everything runs in this process")
def test_items_come_back_in_order_from_other_processes():
    results = map_in_processes(square, list(range(9)))
    assert [value for value, _ in results] == [n * n for n in range(9)]
    assert os.getpid() not in {process for _, process in results}


def test_a_single_item_runs_here():
    assert map_in_processes(square, [3]) == [(9, os.getpid())]
    assert map_in_processes(square, []) == []


def test_an_error_for_people_arrives_with_its_three_parts():
    with pytest.raises(UserError) as error:
        map_in_processes(refuse, [1, 2, 3])
    assert (error.value.what, error.value.where, error.value.fix) == ("what", "where", "fix")


def refuse_twice(value: int) -> int:
    raise UserErrors([UserError("first", "a:1", "mend"), UserError("second", "a:2", "mend")])


@pytest.mark.skipif(num_cores() < 2, reason="this machine has one core: everything runs in this process")
def test_all_mistakes_arrive_from_a_worker():
    with pytest.raises(UserErrors) as error:
        map_in_processes(refuse_twice, [1, 2])
    assert [(one.what, one.where) for one in error.value.errors] == [("first", "a:1"), ("second", "a:2")]


def die(value: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return value


@pytest.mark.skipif(num_cores() < 2, reason="this machine has one core: everything runs in this process")
def test_a_killed_worker_is_told_with_what_to_do():
    with pytest.raises(MachineFailed) as error:
        map_in_processes(die, [1, 2])
    assert "memory" in error.value.what
    assert "run the same command again" in error.value.fix


@pytest.mark.skipif(num_cores() < 2, reason="this machine has one core: there are no workers")
def test_a_worker_killed_while_the_next_is_started_is_told_as_well():
    """In every seventh pool or so, the start of the second worker fails, for its pipes are closed under it."""
    stop = threading.Event()

    def kill_all() -> None:
        while not stop.is_set():
            for child in psutil.Process().children():
                with suppress(psutil.Error):  # it ended meanwhile
                    if "spawn_main" in " ".join(child.cmdline()):
                        child.kill()

    killer = threading.Thread(target=kill_all)
    killer.start()
    try:
        for _ in range(25):
            with pytest.raises(WorkerKilled):
                map_in_processes(square, [1, 2])
    finally:
        stop.set()
        killer.join()


SLEEPER = r"""
import os, time
from tasks.storage.workers import map_in_processes
def sleep(item):
    os.write(1, f"{os.getpid()}\n".encode())  # whole lines, also of two processes at once
    time.sleep(60)
if __name__ == "__main__":
    map_in_processes(sleep, [1, 2])
"""


@pytest.mark.skipif(num_cores() < 2, reason="this machine has one core: there are no workers")
def test_workers_die_with_a_killed_parent(tmp_path):
    script = tmp_path / "sleeper.py"
    script.write_text(SLEEPER)
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, env=environment)
    workers = [int(parent.stdout.readline()) for _ in range(2)]
    parent.send_signal(signal.SIGKILL)
    parent.wait(10)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and any(psutil.pid_exists(worker) for worker in workers):
        time.sleep(0.05)
    alive = [
        w for w in workers if psutil.pid_exists(w) and psutil.Process(w).status() != psutil.STATUS_ZOMBIE
    ]
    assert not alive
