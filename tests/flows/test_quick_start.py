"""A small run starts no worker process; a larger one has one pool for all its data stages."""

from pathlib import Path

import pytest

from tasks.storage import workers
from tasks.storage.cores import num_cores
from tests.in_process import rootstock_here
from tests.tiny import write_tiny

pytestmark = pytest.mark.skipif(num_cores() < 2, reason="this machine has one core: there are no workers")


@pytest.fixture
def pools(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """How many items each pool of worker processes was given, call by call."""
    made: list[list[int]] = []

    class Counted(workers._Workers):
        def __init__(self) -> None:
            super().__init__()
            self.calls: list[int] = []
            made.append(self.calls)

        def map(self, function, items):  # type: ignore[no-untyped-def]
            self.calls.append(len(items))
            return super().map(function, items)

    monkeypatch.setattr(workers, "_Workers", Counted)
    return made


def test_a_small_run_starts_no_worker_process(tmp_path: Path, pools: list[list[int]]) -> None:
    write_tiny(tmp_path, copies=3)
    done = rootstock_here("run", "tiny.yaml", "--no-prefect", "--set", "training.steps=2", cwd=tmp_path)
    assert "verdict: " in done.out, done.err
    assert pools == []


def test_one_pool_serves_all_data_stages_of_a_run(
    tmp_path: Path, pools: list[list[int]], workers_for_few: None
) -> None:
    write_tiny(tmp_path, copies=3)
    done = rootstock_here("run", "tiny.yaml", "--dry-run", cwd=tmp_path)
    assert done.code == 0, done.err
    assert pools == [[3, 3]]  # the domain's files are read, then tokenised; all other work has one item
