"""The Prefect server that a run or `serve` brings along."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from flows.given_server import require_answer
from flows.server import NOTE, free_port, is_healthy, prefect_server, running_server, server_home
from schemas.errors import UserError
from tests.command_line import environment
from tests.flows.hostile import trap

HOLD = """
import sys, time
from pathlib import Path
from flows.cli import quiet_environment
from flows.server import prefect_server
quiet_environment()
with prefect_server(Path(sys.argv[1]), schedules=True) as address:
    print(address, flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a server sets for the rest of the process ends with the test."""
    for name in ("PREFECT_HOME", "PREFECT_API_URL"):
        monkeypatch.setenv(name, "")  # remembered, so that it is restored
        monkeypatch.delenv(name)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds a lasting server for the state in `tmp_path`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], env=environment(), stdout=subprocess.PIPE, text=True
    )
    yield process
    process.kill()
    process.wait()


def wait_until(true: object, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow
def test_a_server_serves_others_of_its_state_and_dies_with_the_process_that_started_it(
    holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    assert holder.stdout is not None
    address = holder.stdout.readline().strip()
    home = tmp_path / "prefect"
    assert running_server(home) == address
    with prefect_server(tmp_path) as shared:
        assert shared == address
        assert os.environ["PREFECT_API_URL"] == address
    assert is_healthy(address), "a borrowed server is not stopped"
    server = json.loads((home / NOTE).read_text())["pid"]
    os.kill(holder.pid, signal.SIGKILL)
    wait_until(lambda: not psutil.pid_exists(server) or psutil.Process(server).status() == "zombie")
    assert running_server(home) is None


def test_an_address_in_the_environment_is_used_and_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with trap() as somewhere:
        address = f"{somewhere.address}/api"
        monkeypatch.setenv("PREFECT_API_URL", address)
        monkeypatch.setenv("PREFECT_API_KEY", "key")
        with prefect_server(tmp_path) as used:
            assert used == address
        assert (os.environ["PREFECT_API_URL"], os.environ["PREFECT_API_KEY"]) == (address, "key")
        assert somewhere.heard == ["GET /api/admin/version Bearer key"]


@pytest.mark.parametrize(("status", "said"), [(401, "does not know us"), (403, "does not know us"), (404, "says 404"), (503, "says 503")])  # fmt: skip
def test_a_server_that_will_not_have_us_is_a_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, said: str
) -> None:
    with trap(status) as somewhere:
        monkeypatch.setenv("PREFECT_API_URL", f"{somewhere.address}/api")
        with pytest.raises(UserError, match=said) as caught, prefect_server(tmp_path):
            pass
    assert "unset PREFECT_API_URL" in caught.value.fix


@pytest.mark.parametrize("address", ["http://[::1", "http://127.0.0.1:99999/api", "http://127.0.0.1:x/api", "http:///api", "localhost:4200/api", "http://\x00/api"])  # fmt: skip
def test_what_is_no_address_is_a_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    with pytest.raises(UserError, match="no Prefect server answers"):
        require_answer(address)


def test_a_server_that_cannot_start_is_a_mistake_with_a_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "PREFECT_SERVER_DATABASE_CONNECTION_URL", "sqlite+aiosqlite:////nowhere/there/prefect.db"
    )
    with pytest.raises(UserError) as caught, prefect_server(tmp_path):
        pass
    assert "stopped with code" in caught.value.what
    assert caught.value.where == str(tmp_path / "prefect" / "server.log")
    assert "--no-prefect" in caught.value.fix


@pytest.mark.parametrize(
    "note",
    [
        "",
        "{",
        "[1]",
        "[" * 100_000,
        "\0",
        '{"pid": 1}',
        '{"pid": 4194304, "address": "http://127.0.0.1:9/api"}',
    ],
    ids=lambda note: note[:12],
)
def test_a_note_left_by_a_killed_server_is_nothing(tmp_path: Path, note: str) -> None:
    (tmp_path / NOTE).write_text(note)
    assert running_server(tmp_path) is None


def test_prefect_lives_in_the_state_folder_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert server_home(tmp_path) == tmp_path / "prefect"
    monkeypatch.setenv("PREFECT_HOME", "/elsewhere")
    assert server_home(tmp_path) == Path("/elsewhere")


def test_nothing_is_healthy_where_nothing_listens() -> None:
    assert not is_healthy(f"http://127.0.0.1:{free_port()}/api")
