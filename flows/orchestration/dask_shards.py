"""Map shards over the workers of an existing Dask cluster, through Prefect's task runner: the same functions."""

import contextvars
import importlib.util
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from uuid import uuid4

from prefect import task
from prefect.cache_policies import NO_CACHE

from schemas.errors import UserError
from tasks.stage import RETRIES, RETRY_DELAY_SECONDS, machine_failed
from tasks.storage.workers import ShardMap

CONNECT_SECONDS = 10


@task(
    name="shard", cache_policy=NO_CACHE,
    retries=RETRIES, retry_delay_seconds=RETRY_DELAY_SECONDS, retry_condition_fn=machine_failed,
)  # fmt: skip
def do_shard(function: Callable[[Any], Any], item: Any) -> Any:
    """Do one shard in a worker."""
    return function(item)


@contextmanager
def map_on_dask(address: str, state: Path) -> Iterator[ShardMap]:
    """Yield a map over the cluster's workers.

    Workers run in this folder and see the same files: paths of data and state are read as they are written.

    Raises:
        UserError: prefect-dask is missing, the scheduler does not answer, or its workers cannot do our work.
    """
    if importlib.util.find_spec("prefect_dask") is None:
        raise UserError(
            "prefect-dask is not installed", f"--dask {address}", "run: pip install 'rootstock[dask]'"
        )
    require_workers(address, state)
    from prefect_dask.task_runners import DaskTaskRunner

    # Shards belong to the flow: Prefect would send the running task's own arguments along to every worker.
    of_the_flow = contextvars.copy_context()
    with DaskTaskRunner(address=address) as runner:

        def map_shards(function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
            shards = [{"function": function, "item": item} for item in items]
            futures = [of_the_flow.run(runner.submit, do_shard, shard) for shard in shards]
            return [future.result() for future in futures]

        yield map_shards


def require_workers(address: str, state: Path) -> None:
    """Ask every worker whether it can do our work, before any is given.

    Raises:
        UserError: naming the first worker that cannot, and why.
    """
    from distributed import Client

    where = f"--dask {address}"
    try:
        client = Client(address, timeout=CONNECT_SECONDS)
    except (OSError, ValueError, TimeoutError) as error:
        fix = "start one with: dask scheduler, then: dask worker tcp://HOST:8786; or leave --dask out"
        raise UserError(f"no Dask scheduler answers ({type(error).__name__})", where, fix) from None
    state.mkdir(parents=True, exist_ok=True)
    marker = state / f".dask-{uuid4().hex}"
    marker.touch()
    try:
        answers = client.run(
            examine_worker, str(Path.cwd()), str(marker), _loopback_port(os.environ["PREFECT_API_URL"])
        )
    except ModuleNotFoundError as error:
        fix = "install Rootstock in the workers' environment (the same version as here)"
        raise UserError(f"the Dask workers cannot import {error.name}", where, fix) from None
    finally:
        marker.unlink()
        client.close()
    if not answers:
        raise UserError(
            "the Dask scheduler has no workers", where, f"start one in {Path.cwd()}: dask worker {address}"
        )
    for worker, problem in answers.items():
        if problem is not None:
            raise UserError(f"a Dask worker {problem[0]}", f"{where}, worker {worker}", problem[1])


def examine_worker(folder: str, marker: str, local_port: int | None) -> tuple[str, str] | None:
    """In a worker: what keeps it from doing our work, and the remedy; None if nothing does."""
    if str(Path.cwd()) != folder:
        return f"runs in {Path.cwd()}, not in {folder}", f"start it there: cd {folder} && dask worker ..."
    if not Path(marker).exists():
        return "does not see the state folder", "put the state folder on a file system that all workers share"
    if local_port is not None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", local_port)):
                return (
                    "cannot reach Prefect's server, which answers on this machine only",
                    "run a Prefect server that all machines reach, and set PREFECT_API_URL to its address",
                )
    return None


def _loopback_port(address: str) -> int | None:
    parsed = urlparse(address)
    return parsed.port if parsed.hostname in ("127.0.0.1", "localhost") else None
