"""How many processors this process may use, and what its numerical libraries are told of it."""

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def num_cores(cgroup: Path = CGROUP) -> int:
    """Cores this process may use: by its affinity and by the quota of its container, whichever is less."""
    allowed = len(os.sched_getaffinity(0))
    quota = cpu_quota(cgroup)
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def cpu_quota(cgroup: Path) -> float | None:
    """Processors' worth of time that the control group grants (version 2 or 1), None where it sets no bound.

    A container sees its own group at the root; of groups around it only those that it can see are asked.
    """
    pairs = ("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")
    for files in pairs:
        try:
            quota, period = " ".join((cgroup / file).read_text() for file in files).split()
            if quota not in ("max", "-1"):
                return int(quota) / int(period)
        except (OSError, ValueError, ZeroDivisionError):
            continue
    return None


def limit_threads() -> None:
    """Have OpenMP start no more threads than there are cores, and let those that wait sleep; before torch is imported.

    By default a thread that waits for the others spins: beside other load it keeps them from the core that they need.
    """
    given = os.environ.get("OMP_NUM_THREADS", "")
    wanted = int(given) if given.isdecimal() and int(given) else num_cores()
    os.environ["OMP_NUM_THREADS"] = str(min(wanted, num_cores()))
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
