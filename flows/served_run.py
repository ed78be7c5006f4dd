"""A run that `rootstock serve` starts: Prefect's engine, but nothing taken from files that lie in the working directory.

`python -P -m flows.served_run`: Prefect would start `python -m prefect.engine`, which reads its settings before any line of
ours.
"""

import functools
import runpy
import shlex
import sys

from flows.surroundings import quiet_environment


def start_runs_isolated() -> None:
    """Have the runner of this process start every run as this module."""
    from prefect.runner import runner

    command = shlex.join([sys.executable, "-P", "-m", "flows.served_run"])
    starter = functools.partial(runner.EngineCommandStarter, command=command)
    runner.EngineCommandStarter = starter  # type: ignore[misc,assignment]


if __name__ == "__main__":
    quiet_environment()
    runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)
