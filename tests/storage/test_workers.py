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
from tasks.storage import workers
from tasks.storage.cores import num_cores
from tasks.storage.workers import fitting, map_here, map_in_processes, one_pool, rest


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


def ids_of(results: list[tuple[int, int]]) -> set[int]:
    return {process for _, process in results}


@pytest.mark.skipif(num_cores() < 2, reason="this machine has one core: there are no workers")
def test_a_pool_serves_every_call_until_its_block_ends():
    with one_pool(map_in_processes) as pool:
        first = ids_of(pool(square, [1, 2]))
        for _ in range(3):
            assert ids_of(pool(square, range(9))) <= {child.pid for child in psutil.Process().children()}
        alive = first | ids_of(pool(square, range(9)))
        assert len(alive) <= num_cores()
        rest(pool)
        assert not any(psutil.pid_exists(process) for process in alive)
        assert not alive & ids_of(pool(square, [1, 2]))
    assert not any("spawn_main" in " ".join(child.cmdline()) for child in psutil.Process().children())


@pytest.mark.skipif(num_cores() < 2, reason="this machine has one core: there are no workers")
def test_workers_outlive_the_thread_that_called_first_and_serve_several_at_once():
    """The system ends a child with the thread that started it, and a stage may run in a thread of its own."""
    seen: list[set[int]] = []
    with one_pool(map_in_processes) as pool:
        for _ in range(2):
            threads = [
                threading.Thread(target=lambda: seen.append(ids_of(pool(square, [1, 2, 3, 4]))))
                for _ in range(3)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        last = ids_of(pool(square, [1, 2, 3, 4]))
    assert len(seen) == 6
    assert len(set.union(last, *seen)) <= num_cores()


@pytest.mark.skipif(num_cores() < 2, reason="this machine has one core: there are no workers")
def test_a_pool_has_new_workers_after_one_was_killed():
    with one_pool(map_in_processes) as pool:
        with pytest.raises(WorkerKilled):
            pool(die, [1, 2])
        assert [value for value, _ in pool(square, [1, 2])] == [1, 4]


@pytest.mark.skipif(num_cores() < 2, reason="this machine has one core: there are no workers")
@pytest.mark.timeout(60)
def test_a_pool_ends_while_some_of_its_workers_still_start():
    for _ in range(5):
        assert map_in_processes(abs, [1, 2, 3]) == [1, 2, 3]


def write_late(job: tuple[Path, int]) -> None:
    folder, number = job
    if number == 0:
        raise UserError("what", "where", "fix")
    time.sleep(0.5)
    (folder / str(number)).touch()


@pytest.mark.skipif(num_cores() < 2, reason="this machine has one core: there are no workers")
def test_no_worker_writes_any_more_when_a_mistake_is_told(tmp_path):
    with one_pool(map_in_processes) as pool:
        pool(square, [1, 2])
        with pytest.raises(UserError):
            pool(write_late, [(tmp_path, number) for number in range(20)])
        written = sorted(tmp_path.iterdir())
        time.sleep(1)
        assert sorted(tmp_path.iterdir()) == written
        assert len(written) < 19


@pytest.mark.skipif(num_cores() < 2, reason="this machine has one core: there are no workers")
def test_a_pool_leaves_no_open_files_or_threads():
    process = psutil.Process()
    map_in_processes(square, [1, 2])  # the resource tracker stays
    before = process.num_fds(), threading.active_count()
    for _ in range(3):
        with one_pool(map_in_processes) as pool:
            pool(square, [1, 2])
            with pytest.raises(WorkerKilled):
                pool(die, [1, 2])
    assert (process.num_fds(), threading.active_count()) == before


def test_few_bytes_are_done_here_and_a_map_of_others_is_as_it_was(monkeypatch):
    monkeypatch.setattr(workers, "HERE_BYTES", 100)
    with one_pool(map_in_processes) as pool:
        for own in (map_in_processes, pool):
            assert fitting(own, 99) is map_here
            assert fitting(own, 100) is own

    def elsewhere(function, items):
        raise AssertionError

    with one_pool(elsewhere) as same:
        assert same is elsewhere
    assert fitting(elsewhere, 1) is elsewhere


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
    pids = [int(parent.stdout.readline()) for _ in range(2)]
    parent.send_signal(signal.SIGKILL)
    parent.wait(10)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and any(psutil.pid_exists(pid) for pid in pids):
        time.sleep(0.05)
    alive = [p for p in pids if psutil.pid_exists(p) and psutil.Process(p).status() != psutil.STATUS_ZOMBIE]
    assert not alive
