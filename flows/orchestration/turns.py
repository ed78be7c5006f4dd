"""Served runs train one after another: two trainings at once would share the memory that each was laid out for.

`rootstock serve` does not even start a run whose turn has not come (`served_runs.py`): it waits without a process. The lock here
is for what others start, such as the workers of a work pool.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prefect import get_run_logger, runtime

from tasks.storage.steps import hold

TURN = "turn-to-train"
"""Name of the lock in the state folder."""
TRAINS = frozenset({"continual-training", "backfill", "choose-replay", "compare-methods", "compare-remedies"})
"""The flows that take a turn."""
WAITING = "another served run trains: waiting for it"


@contextmanager
def turn_to_train(state: Path) -> Iterator[None]:
    """Wait until no other served run of this state folder trains; one that is killed gives its turn up.

    Taken before anything is read, so that what was true before the wait is not trained on. Whoever calls a flow, or uses the
    command line, decides what runs side by side.
    """
    if runtime.deployment.id is None:
        yield
        return
    with hold(state, TURN, lambda: get_run_logger().info(WAITING)):
        yield
