"""Map a function over shards in worker processes that die with their parent; over few bytes, in this process."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from schemas.errors import WorkerKilled
from tasks.storage.children import die_with
from tasks.storage.cores import num_cores

Item = TypeVar("Item")
Result = TypeVar("Result")

HERE_BYTES = 64 * 2**20
"""Fewer are done in this process. Reading, gating and tokenising take 0.15 s a MiB together, what a worker first imports for
it 5.5 s (processor time): with two cores, about as much at 70 MiB."""


class ShardMap(Protocol):
    """Anything that maps a picklable function over items, in order: processes here, Dask workers elsewhere."""

    def __call__(self, function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]: ...


def map_here(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Map over `items` one after another in this process."""
    return [function(item) for item in items]


def map_in_processes(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Map over `items` in at most one process per core, which end with the call; a single item runs here.

    Raises:
        WorkerKilled: a worker was killed, as a machine short of memory does.
    """
    with one_pool(map_in_processes) as map_shards:
        return map_shards(function, items)


@contextmanager
def one_pool(map_shards: ShardMap) -> Iterator[ShardMap]:
    """In place of `map_in_processes`, a map whose workers serve every call until the block ends; other maps as they are."""
    if map_shards is not map_in_processes:
        yield map_shards
        return
    pool = WorkerPool()
    try:
        yield pool
    finally:
        pool.close()


def fitting(map_shards: ShardMap, num_bytes: int) -> ShardMap:
    """The map itself; in place of processes of this machine, this very process where the items are few bytes."""
    in_processes = map_shards is map_in_processes or isinstance(map_shards, WorkerPool)
    return map_here if in_processes and num_bytes < HERE_BYTES else map_shards


def rest(map_shards: ShardMap) -> None:
    """End the workers of a pool before something else needs the memory; the next call has new ones."""
    if isinstance(map_shards, WorkerPool):
        map_shards.close()


class WorkerPool:
    """A map over worker processes that are started when they are needed first; several threads may call it at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._workers: _Workers | None = None

    def __call__(self, function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """As `map_in_processes`.

        Raises:
            WorkerKilled: see there; the next call has new workers.
        """
        if min(len(items), num_cores()) <= 1:
            return map_here(function, items)
        with self._lock:
            workers = self._workers = self._workers or _Workers()
        try:
            return workers.map(function, items)
        except BrokenProcessPool:
            self._end(workers)
            raise WorkerKilled(
                "a worker process was killed from outside, most likely because memory ran out",
                f"one of {min(len(items), num_cores())} worker processes",
                "free some memory, then run the same command again: finished steps are kept",
            ) from None
        except (KeyboardInterrupt, SystemExit):  # asked to end: no shard is waited for, each is done again
            self._end(workers)
            raise

    def close(self) -> None:
        """End the workers, which have nothing to do any more."""
        if self._workers is not None:
            self._end(self._workers)

    def _end(self, workers: "_Workers") -> None:
        with self._lock:
            if self._workers is workers:
                self._workers = None
        workers.end()


class _Workers:
    """The processes of a pool, and the thread that starts them.

    The system kills a worker when the *thread* that started it ends (`die_with`), and a stage's thread may end before.
    """

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")  # torch and fork do not mix
        self.processes = ProcessPoolExecutor(
            num_cores(), context, initializer=die_with, initargs=(os.getpid(),)
        )
        self.starter = ThreadPoolExecutor(1, "start-workers")

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """Return when no worker does anything of it any more, whether it succeeded or not.

        Raises:
            BrokenProcessPool: a worker died.
        """
        futures: list[Future[Result]] = []
        try:
            self.starter.submit(self._submit, function, items, futures).result()
            return [future.result() for future in futures]
        except Exception:
            for future in futures:
                future.cancel()
            wait(futures)
            raise
        except BaseException:
            for worker in multiprocessing.active_children():
                worker.kill()
            raise

    def _submit(
        self, function: Callable[[Any], Any], items: Sequence[Any], futures: list[Future[Any]]
    ) -> None:
        try:
            for item in items:
                futures.append(self.processes.submit(function, item))
        except (OSError, ValueError):  # a worker died while the next one was started with its pipes
            self.processes.submit(
                os.getpid
            )  # tells whether that was the cause: a pool that is broken says so
            raise

    def end(self) -> None:
        """Wait until all processes are gone, and what they were reached by.

        The starting thread ends last: with it the system would kill one that holds their queue, for which others wait.
        """
        self.processes.shutdown(cancel_futures=True)
        self.starter.shutdown(cancel_futures=True)
