"""Child processes that never outlive the process that started them, and import nothing that lies in the working directory."""

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1
SERVED = "ROOTSTOCK_SERVED_RUN"
"""Set where `rootstock serve` started this process, and tells what became of its run."""


def die_with(parent: int) -> None:
    """In a child: be killed when `parent`, the process that started it, ends for whatever reason (Linux)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the call
        os._exit(1)


def isolate_children() -> None:
    """Have every Python that is started from here leave the working directory out of its path, as `python -P` does.

    `-m`, `-c` and multiprocessing's spawn put it first: a module beside the data would stand before the one of its name.
    An empty part of PYTHONPATH means the same folder, and so does a dot.
    """
    os.environ["PYTHONSAFEPATH"] = "1"
    if path := os.environ.get("PYTHONPATH"):
        os.environ["PYTHONPATH"] = os.pathsep.join(
            part for part in path.split(os.pathsep) if part.strip("./")
        )
