"""A run that `rootstock serve` starts: Prefect's engine, but nothing taken from files that lie in the working directory.

`python -P -m flows.served_run`: Prefect would start `python -m prefect.engine`, which reads its settings before any line of
ours.
"""

import os
import runpy
import sys

from flows.own_code import load_only_ours
from flows.surroundings import quiet_environment
from tasks.storage.children import SERVED

COMMAND = (sys.executable, "-P", "-m", "flows.served_run")


def leave_end_to_parent() -> None:
    """Say nothing of our own end when we are asked to end: who asked knows whether the run is cancelled or taken up again.

    Prefect would tell its server *Crashed*, and whatever listens for that would hear it.
    """
    from prefect._internal import control_listener

    control_listener._set_intent("relinquish")
    os.environ[SERVED] = "1"


if __name__ == "__main__":
    quiet_environment()
    from prefect import flow_engine

    load_only_ours(flow_engine)
    leave_end_to_parent()
    runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)
