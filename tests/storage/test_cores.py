"""torch gets as many threads as there are cores to use: affinity and quota count, and waiting threads sleep."""

import os
import subprocess
import sys

import pytest

from tasks.storage.cores import cpu_quota, limit_threads, num_cores


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "150000 100000"}, 1.5),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.5),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({"cpu.max": "broken"}, None),
        ({}, None),
    ],
)
def test_a_quota_is_read_of_either_version_of_control_groups(tmp_path, files, quota):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cpu_quota(tmp_path) == quota
    allowed = len(os.sched_getaffinity(0))
    assert num_cores(tmp_path) == (allowed if quota is None else min(allowed, {1.5: 2, 0.5: 1}[quota]))


@pytest.mark.parametrize(
    ("given", "told"), [("1", 1), ("4096", num_cores()), ("", num_cores()), ("0", num_cores())]
)
def test_no_more_threads_than_cores_whatever_is_asked_for(monkeypatch, given, told):
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    limit_threads()
    assert os.environ["OMP_NUM_THREADS"] == str(told)
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"


def test_a_command_bound_to_one_core_trains_with_one_thread():
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from flows.environment.surroundings import quiet_environment; quiet_environment()\n"
        "import torch; print(torch.get_num_threads())"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.strip() == "1"
