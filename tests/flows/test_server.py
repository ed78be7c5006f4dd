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

from flows.environment.server_note import NOTE, remove_note
from flows.serving.given_server import require_answer
from flows.serving.served_from import served_alone
from flows.serving.server import free_port, is_healthy, prefect_server, running_server, server_home
from flows.serving.server_log import fix, reason
from schemas.errors import UserError
from tests.command_line import environment
from tests.flows.hostile import trap

HOLD = """
import sys, time
from pathlib import Path
from flows.cli.main import quiet_environment
from flows.serving.server import prefect_server
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
    assert "stopped with code 3: unable to open database file" in caught.value.what
    assert caught.value.where == str(tmp_path / "prefect" / "server.log")
    assert "unset PREFECT_SERVER_DATABASE_CONNECTION_URL" in caught.value.fix
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


REASONS = {
    "pydantic_core.ValidationError: 1 validation error for LoggingSettings\nlevel\n  Input should be 'DEBUG' [type=literal_error, input_value='secret']\n    For": (
        "LoggingSettings level Input should be 'DEBUG'", "unset PREFECT_LOGGING_LEVEL;"),
    "x.DatabaseError: (sqlite3.DatabaseError) file is not a database\n(Background)\n\nERROR:    Application startup failed. Exiting.\n": (
        "file is not a database", "prefect.db.damaged"),
    "ERROR:    [Errno 98] error while attempting to bind: address already in use\nERROR:    Traceback\nAssertionError: not started\n": (
        "[Errno 98] error while attempting to bind: address already in use", "another --port"),
    "Killed\n": ("", "see the end of"),
}  # fmt: skip


@pytest.mark.parametrize("log", REASONS)
def test_a_log_tells_why_a_server_did_not_start_and_what_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: str
) -> None:
    monkeypatch.setenv("PREFECT_LOGGING_LEVEL", "secret")
    (tmp_path / "prefect.db").touch()
    why, help = REASONS[log]
    assert reason(log) == why
    assert help in fix(why, tmp_path)
    assert ("--port" in fix(why, tmp_path)) == ("in use" in why)


def test_the_note_of_another_server_stays(tmp_path: Path) -> None:
    (tmp_path / NOTE).write_text('{"address": "http://127.0.0.1:4200/api"}')
    remove_note(tmp_path, "http://127.0.0.1:4300/api")
    assert (tmp_path / NOTE).exists()
    remove_note(tmp_path, "http://127.0.0.1:4200/api")
    remove_note(tmp_path, "http://127.0.0.1:4200/api")
    assert not (tmp_path / NOTE).exists()


def test_what_is_being_served_is_not_served_twice(tmp_path: Path) -> None:
    with (
        served_alone(tmp_path, 4200),
        pytest.raises(UserError, match="served already"),
        served_alone(tmp_path, 4300),
    ):
        pass
    with served_alone(tmp_path, 4300):
        pass
    assert server_home(tmp_path).stat().st_mode & 0o077 == 0, "what Prefect keeps there is nobody else's"


def test_a_state_folder_is_served_from_one_folder_until_it_is_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs and schedules name files by relative paths."""
    for name in ("a", "b"):
        (tmp_path / name / ".rootstock").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a")
    with served_alone(Path(".rootstock"), 4200) as named:
        assert named == Path(".rootstock")
    with served_alone(tmp_path / "a" / ".rootstock", 4200) as named:
        assert named == Path(".rootstock"), "as its runs name it, however it is spelled"
    monkeypatch.chdir(tmp_path / "b")
    with pytest.raises(UserError) as refused, served_alone(Path("../a/.rootstock"), 4200):
        pass
    assert refused.value.where == str(tmp_path / "a")
    assert f"cd {tmp_path / 'a'} && rootstock serve --state .rootstock --port 4200" in refused.value.fix
    (tmp_path / "a").rename(tmp_path / "c")
    monkeypatch.chdir(tmp_path / "c")
    with served_alone(Path(".rootstock"), 4200):
        pass
    (tmp_path / "c" / ".rootstock").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="leads nowhere") as refused, served_alone(Path("../elsewhere"), 4200):
        pass
    subprocess.run(refused.value.fix.partition("or: ")[2], shell=True, check=True)
    with served_alone(Path("../elsewhere"), 4200) as named:
        assert named == Path(".rootstock")
