"""A run that `rootstock serve` starts: Prefect's engine, but nothing taken from files that lie in the working directory.

`python -P -m flows.served_run`: Prefect would start `python -m prefect.engine`, which reads its settings before any line of
ours.
"""

import runpy
import sys

from flows.surroundings import quiet_environment

COMMAND = (sys.executable, "-P", "-m", "flows.served_run")


if __name__ == "__main__":
    quiet_environment()
    runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)
