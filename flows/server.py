"""A Prefect server of our own: a child process that never outlives the one that started it."""

import functools
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.supervise import kept_running
from schemas.errors import UserError
from tasks.storage.atomic import write_atomic
from tasks.storage.children import die_with

STARTUP_SECONDS = 240
NOTE = "server.json"


@contextmanager
def prefect_server(state: Path, port: int | None = None, schedules: bool = False) -> Iterator[str]:
    """Yield the API's address: of PREFECT_API_URL, of a server that already runs for this state, or of a new child.

    Prefect keeps its database and logs in PREFECT_HOME, by default `<state>/prefect`. With `schedules` the server
    makes scheduled runs; one that only watches a single run must not.

    Raises:
        UserError: the server cannot be started or does not answer in time.
    """
    home = server_home(state)
    os.environ["PREFECT_HOME"] = str(home)
    if address := os.environ.get("PREFECT_API_URL") or running_server(home):
        os.environ["PREFECT_API_URL"] = address
        yield address
        return
    home.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    address = f"http://127.0.0.1:{port}/api"
    process = _start(home, port, schedules)
    try:
        _wait_until_healthy(process, address, home)
        os.environ["PREFECT_API_URL"] = address
        if schedules:
            write_atomic(home / NOTE, json.dumps({"pid": process.pid, "address": address}))

        def again() -> subprocess.Popen[bytes]:
            started = _start(home, port, schedules)
            if schedules:
                write_atomic(home / NOTE, json.dumps({"pid": started.pid, "address": address}))
            return started

        with kept_running(process, again, _stop):
            yield address
    finally:
        if schedules:
            (home / NOTE).unlink(missing_ok=True)
        os.environ.pop("PREFECT_API_URL", None)
        _stop(process)


def server_home(state: Path) -> Path:
    """Where Prefect keeps its database: PREFECT_HOME, or a folder of the state."""
    return Path(os.environ.get("PREFECT_HOME") or (state / "prefect").absolute())


def running_server(home: Path) -> str | None:
    """Address of the lasting server that keeps its database in `home` (`rootstock serve`), if one runs here."""
    try:
        note = json.loads((home / NOTE).read_text())
        pid, address = int(note["pid"]), str(note["address"])
        os.kill(pid, 0)
    except (OSError, ValueError, KeyError):
        return None  # none, or killed before it could take its note away
    return address if is_healthy(address) else None


def is_healthy(address: str) -> bool:
    """Whether a Prefect API answers at `address`."""
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def free_port() -> int:
    """A port of the loopback interface that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _start(home: Path, port: int, schedules: bool) -> subprocess.Popen[bytes]:
    settings = {
        "PREFECT_UI_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": str(schedules),
        "PREFECT_SERVER_SERVICES_LATE_RUNS_ENABLED": str(schedules),
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "INFO",  # into server.log
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with (home / "server.log").open("ab") as log:
        return subprocess.Popen(
            command,
            env={**os.environ, **settings},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C stops us first: the last states of a run still have to be written
            preexec_fn=functools.partial(die_with, os.getpid()),
        )


def _wait_until_healthy(process: subprocess.Popen[bytes], address: str, home: Path) -> None:
    deadline = time.monotonic() + STARTUP_SECONDS
    while not is_healthy(address):
        if process.poll() is not None or time.monotonic() > deadline:
            how = (
                "did not answer in time"
                if process.poll() is None
                else f"stopped with code {process.returncode}"
            )
            raise UserError(
                f"the Prefect server could not be started: it {how}",
                str(home / "server.log"),
                "free the port, choose another --state, or run the stages as plain functions: rootstock run --no-prefect",
            )
        time.sleep(0.1)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Stop the server and everything it started."""
    for number, patience in ((signal.SIGTERM, 10), (signal.SIGKILL, 10)):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            continue
        return
