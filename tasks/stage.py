"""What every stage gets from Prefect, written once: mistakes as three lines, and honest reuse.

Nothing here is cached by Prefect (`NO_CACHE` on every task). A stage's steps are content-addressed on disk already;
a second cache would answer from its own records after someone has removed or mended a step's folder, and would keep
results as pickles. What Prefect's page shows as Cached is the disk's own answer.
"""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefect import State
from prefect.context import TaskRunContext
from prefect.exceptions import TerminationSignal
from prefect.states import Cancelled, Completed, Failed

from schemas.errors import ExitCode, UserError, WorkerKilled
from tasks.storage.children import SERVED

RETRIES, RETRY_DELAY_SECONDS = 2, [2.0, 10.0]


def run_stage(state: Path, work: Callable[[], Any]) -> State[Any]:
    """Do the work; Completed with its result, named Cached if every step folder was there already."""
    before = _step_folders(state)
    try:
        result = work()
    except UserError as error:
        return stopped(error)
    if _step_folders(state) - before:
        return Completed(data=result)
    return Completed(
        name="Cached", message="every step of this stage was on disk already; nothing was done", data=result
    )


def stopped(error: UserError) -> State[Any]:
    """A user's mistake as a state whose message is its three lines; Cancelled if we were asked to stop.

    Raises:
        TerminationSignal: we were, and a parent that asked tells itself what becomes of the run.
    """
    if error.exit_code in (ExitCode.TERMINATED, ExitCode.INTERRUPTED):
        if os.environ.get(SERVED) and TaskRunContext.get() is None:
            raise TerminationSignal(signal.SIGTERM)
        return Cancelled(message=str(error), data=error)
    return Failed(message=str(error), data=error)


def result_of(state: State[Any]) -> Any:
    """The result of a stage, or its mistake raised again as it was."""
    result = state.result(raise_on_failure=False)
    if isinstance(result, BaseException):
        raise result
    return result


def machine_failed(_task: Any, _run: Any, state: State[Any]) -> bool:
    """Whether another attempt may help: a disk, a network or a worker failed, not the user and not our code.

    A killed worker arrives as the mistake that `map_in_processes` makes of it, never as the pool's own exception.
    """
    return isinstance(state.data, OSError | WorkerKilled)


def _step_folders(state: Path) -> set[tuple[str, int]]:
    """Visible step folders; the inode tells a folder that was written anew from the one it replaced."""
    data = state / "data"
    if not data.is_dir():
        return set()
    return {
        (folder.name, folder.stat().st_ino) for folder in data.iterdir() if not folder.name.startswith(".")
    }
