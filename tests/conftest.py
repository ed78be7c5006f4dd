"""The order of files (those with slow tests first, then those with many, so that no process is left with a long one), and Ctrl-C."""

import signal
from collections import Counter

import pytest

from tasks.storage import workers
from tests.registry_template import reuse_migrations
from tests.warm import TEMPLATE

reuse_migrations(TEMPLATE)
if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # as a shell has it behind `&`: our children would ignore it too
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def workers_for_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have worker processes do the least of bytes, as they do many."""
    monkeypatch.setattr(workers, "HERE_BYTES", 0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort whole files; within a file the order stays (xdist keeps it with --no-loadscope-reorder)."""
    counts = Counter(item.path for item in items)
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path not in slow, -counts[item.path]))
