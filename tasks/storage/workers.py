"""Map a function over shards in worker processes that die with their parent."""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Protocol, TypeVar

from schemas.errors import WorkerKilled
from tasks.storage.children import die_with
from tasks.storage.cores import num_cores

Item = TypeVar("Item")
Result = TypeVar("Result")


class ShardMap(Protocol):
    """Anything that maps a picklable function over items, in order: processes here, Dask workers elsewhere."""

    def __call__(self, function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]: ...


def map_in_processes(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Map over `items` in at most one process per core; a single item runs here.

    Raises:
        WorkerKilled: a worker was killed, as a machine short of memory does.
    """
    workers = min(len(items), num_cores())
    if workers <= 1:
        return [function(item) for item in items]
    context = multiprocessing.get_context("spawn")  # torch and fork do not mix
    try:
        with ProcessPoolExecutor(workers, context, initializer=die_with, initargs=(os.getpid(),)) as pool:
            try:
                return list(start_map(pool, function, items))
            except (
                KeyboardInterrupt,
                SystemExit,
            ):  # asked to end: no shard is waited for, each is done again
                for worker in multiprocessing.active_children():
                    worker.kill()
                raise
    except BrokenProcessPool:
        raise WorkerKilled(
            "a worker process was killed from outside, most likely because memory ran out",
            f"one of {workers} worker processes",
            "free some memory, then run the same command again: finished steps are kept",
        ) from None


def start_map(
    pool: ProcessPoolExecutor, function: Callable[[Item], Result], items: Sequence[Item]
) -> Iterator[Result]:
    """Hand all items to a pool, which starts its workers one after the other.

    Raises:
        BrokenProcessPool: a worker died; where the next was being started with their shared pipes, the start itself fails.
    """
    try:
        return pool.map(function, items)
    except (OSError, ValueError):
        pool.submit(os.getpid)  # a pool that is broken says so here
        raise
