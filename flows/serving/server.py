"""A Prefect server of our own: a child process that never outlives the one that started it."""

import functools
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from flows.environment.server_note import read_note, remove_note, write_note
from flows.serving.given_server import require_answer, require_usable_proxy
from flows.serving.server_log import fix, reason
from flows.serving.server_secret import AUTH, FOREIGN, read_password
from flows.serving.supervise import kept_running
from schemas.errors import UserError
from tasks.storage.children import die_with

STARTUP_SECONDS = 240


@contextmanager
def prefect_server(
    state: Path,
    port: int | None = None,
    schedules: bool = False,
    password_file: Path | None = None,
    meanwhile: AbstractContextManager[None] | None = None,
) -> Iterator[str]:
    """Yield the API's address: of PREFECT_API_URL, of a server that already runs for this state, or of a new child.

    Prefect keeps its database and logs in PREFECT_HOME, by default `<state>/prefect`. With `schedules` the server
    makes scheduled runs; one that only watches a single run must not. With a password, whoever asks has to know it.
    `meanwhile` is entered while a new child is waited for: after it was started, for a fork beside threads may hang.

    Raises:
        UserError: the server cannot be started or does not answer in time.
    """
    home = server_home(state)
    os.environ["PREFECT_HOME"] = str(home)
    require_usable_proxy()
    if address := os.environ.get("PREFECT_API_URL"):
        if password_file is not None:
            fix = "unset PREFECT_API_URL to have a server of our own; one elsewhere has its own password"
            raise UserError("--password-file has no effect beside PREFECT_API_URL", "--password-file", fix)
        require_answer(address)
        yield address
        return
    if address := running_server(home):
        with ours(address, read_password(noted_password(home))):
            yield address
        return
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    port = port or free_port()
    address = f"http://127.0.0.1:{port}/api"
    with ours(address, read_password(password_file)):

        def started() -> subprocess.Popen[bytes]:
            process = _start(home, port, schedules)
            if schedules:
                write_note(home, process.pid, address, password_file)
            return process

        log = plain_file(home / "server.log")
        before = log.stat().st_size if log.exists() else 0
        process = started()
        try:
            with meanwhile or nullcontext():
                _wait_until_healthy(process, address, log, before)
            with kept_running(process, started, _stop):
                yield address
        finally:
            if schedules:
                remove_note(home, address)
            _stop(process)


@contextmanager
def ours(address: str, password: str | None) -> Iterator[None]:
    """Have Prefect in this process and its children speak to our own server, and tell it no secret that is for another."""
    kept = {name: os.environ.pop(name, None) for name in ("PREFECT_API_URL", *FOREIGN, *AUTH)}
    os.environ["PREFECT_API_URL"] = address
    if password is not None:
        os.environ.update(dict.fromkeys(AUTH, password))
    try:
        yield
    finally:
        for name, value in kept.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def server_home(state: Path) -> Path:
    """Where Prefect keeps its database: PREFECT_HOME, or a folder of the state."""
    return Path(os.environ.get("PREFECT_HOME") or state / "prefect").absolute()


def running_server(home: Path) -> str | None:
    """Address of the lasting server that keeps its database in `home` (`rootstock serve`), if one of ours runs here."""
    if (note := read_note(home)) is None:
        return None
    return str(note["address"]) if is_healthy(note["address"]) else None


def noted_password(home: Path) -> Path | None:
    """The file of the running server's password, if it has one."""
    note = read_note(home) or {}
    return Path(note["password_file"]) if "password_file" in note else None


def is_healthy(address: str) -> bool:
    """Whether a Prefect API answers at `address`, asked without a proxy."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"{address}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError, ValueError):
        return False


def free_port() -> int:
    """A port of the loopback interface that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _start(home: Path, port: int, schedules: bool) -> subprocess.Popen[bytes]:
    page = f"http://127.0.0.1:{port}"
    settings = {
        "PREFECT_UI_API_URL": f"{page}/api",
        "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": str(schedules),
        "PREFECT_SERVER_SERVICES_LATE_RUNS_ENABLED": str(schedules),
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": page,
        "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": page,
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "INFO",  # into server.log
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    with plain_file(home / "server.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "flows.serving.guarded_server", str(port)],
            env={**os.environ, **settings},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C stops us first: the last states of a run still have to be written
            preexec_fn=functools.partial(die_with, os.getpid()),
        )


def plain_file(path: Path) -> Path:
    """A file that may be written, or made: not a link that somebody laid to a file of ours, and not a pipe.

    Raises:
        UserError: it is one.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise UserError("this is no plain file, and will not be written", str(path), "remove it")
    return path


def _wait_until_healthy(process: subprocess.Popen[bytes], address: str, log: Path, before: int) -> None:
    """Wait for an answer; `before`: what the log held already is of earlier servers."""
    deadline = time.monotonic() + STARTUP_SECONDS
    while not is_healthy(address):
        if process.poll() is not None:
            why = reason(log.read_bytes()[before:].decode(errors="replace"))
            how = f"it stopped with code {process.returncode}"
            how += f": {why}" if why else ""
            raise UserError(f"the Prefect server could not be started: {how}", str(log), fix(why, log.parent))
        if time.monotonic() > deadline:
            raise UserError(
                f"the Prefect server could not be started: no answer in {STARTUP_SECONDS} seconds",
                str(log),
                "try again when this machine has less to do, or run the stages as plain functions: rootstock run --no-prefect",
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
