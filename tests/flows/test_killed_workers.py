"""A worker process that is killed from outside costs a run some seconds, not the run."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

from tasks.stage import RETRY_DELAY_SECONDS
from tasks.storage.cores import num_cores
from tests.tiny import follow_tiny, write_tiny

pytestmark = [
    pytest.mark.usefixtures("prefect_api", "workers_for_few"),
    pytest.mark.skipif(num_cores() < 2, reason="this machine has one core: there are no workers"),
]


@contextmanager
def killing_workers(pools: int) -> Iterator[list[int]]:
    """Kill the workers of the first so many pools of this process; yield how many were killed in each."""
    killed: list[int] = []
    stop = threading.Event()

    def watch() -> None:
        quiet_since = float("-inf")
        while not stop.is_set():
            workers = []
            for child in psutil.Process().children():
                with suppress(psutil.Error):  # it ended meanwhile
                    workers += [child] if "spawn_main" in " ".join(child.cmdline()) else []
            # attempts are longer apart than this, workers of a pool are not, on a busy machine either
            if workers and time.monotonic() - quiet_since > 0.8 * RETRY_DELAY_SECONDS[0]:
                if len(killed) == pools:
                    return
                killed.append(0)
            for worker in workers:
                with suppress(psutil.Error):
                    worker.send_signal(signal.SIGKILL)
                killed[-1] += 1
                quiet_since = time.monotonic()
            time.sleep(0.01)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield killed
    finally:
        stop.set()
        watcher.join()


def run_count(flow_run: object, task: str) -> int:
    with get_client(sync_client=True) as client:
        runs = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run])))  # type: ignore[list-item]
    return next(run.run_count for run in runs if run.name == task)


def write_two_files(folder: Path) -> None:
    """Two files of the domain are read by workers; one is empty, so that what follows needs none."""
    spec = write_tiny(folder) / "tiny.yaml"
    (folder / "domain-2.txt").touch()
    spec.write_text(spec.read_text().replace("domain.txt", "domain*.txt"))


def test_a_stage_whose_worker_was_killed_is_tried_again(tmp_path: Path) -> None:
    write_two_files(tmp_path)
    with killing_workers(1) as killed:
        done = follow_tiny(tmp_path)
    assert len(killed) == 1
    assert (done.run.state_type.value, done.run.state_name) == ("COMPLETED", "Promoted")
    assert run_count(done.run.id, "prepare") == 2


@pytest.mark.slow
def test_a_worker_that_is_killed_each_time_ends_the_run_in_three_lines(tmp_path: Path) -> None:
    write_two_files(tmp_path)
    with killing_workers(3) as killed:
        done = follow_tiny(tmp_path)
    assert len(killed) == 3
    assert done.run.state_type.value == "FAILED"
    what, where, fix = done.run.state.message.split("\n")
    assert "killed from outside" in what
    assert "worker processes" in where
    assert "run the same command again" in fix
