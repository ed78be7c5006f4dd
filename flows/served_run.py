"""A run that `rootstock serve` starts: Prefect's engine, but nothing taken from files that lie in the working directory.

`python -P -m flows.served_run`: Prefect would start `python -m prefect.engine`, which reads its settings before any line of
ours.
"""

import functools
import runpy
import shlex
import sys

from flows.own_code import load_only_ours
from flows.surroundings import quiet_environment


def start_runs_isolated() -> None:
    """Have the runner of this process start every run as this module."""
    from prefect.runner import runner
    from prefect.runner._starter_engine import EngineCommandStarter

    load_only_ours(runner)  # when it looks for hooks
    command = shlex.join([sys.executable, "-P", "-m", "flows.served_run"])
    vars(runner)["EngineCommandStarter"] = functools.partial(EngineCommandStarter, command=command)


if __name__ == "__main__":
    quiet_environment()
    from prefect import flow_engine

    load_only_ours(flow_engine)
    runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)
