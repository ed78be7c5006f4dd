"""Prefect for tests: a server of their own, on the loopback interface, gone with the session."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.cli.main import quiet_environment

# before anything imports prefect, which reads its settings then
quiet_environment()
os.environ["PREFECT_HOME"] = tempfile.mkdtemp(prefix="rootstock-prefect-")


@pytest.fixture(scope="session")
def prefect_api() -> Iterator[None]:
    """Prefect's own harness: a fresh database behind a real server."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture(scope="session")
def tiny_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a specification that trains a new tiny model in seconds, and its texts."""
    from tests.tiny import write_tiny

    return write_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def finished(prefect_api: None, tiny_files: Path) -> Any:
    """State and flow run of a tiny specification followed to its verdict under Prefect."""
    from tests.tiny import follow_tiny

    return follow_tiny(tiny_files)
