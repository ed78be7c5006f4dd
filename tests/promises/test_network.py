"""Promise 8: no connection leaves this machine, watched in every process of a whole run."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command_line import environment
from tests.promises.conftest import Project

GUARD = '''\
"""Note every address that this Python, or any it starts, connects to, sends to or looks up."""
import os, sys

def watch(event, arguments, log=os.open(os.environ["ROOTSTOCK_TEST_CONNECTIONS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)):
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
        family = arguments[0].family
        if family != 1:  # AF_UNIX never leaves the machine
            os.write(log, f"{event} {address[0] if address else None}\\n".encode())
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        os.write(log, f"{event} {arguments[0]}\\n".encode())

sys.addaudithook(watch)
'''
HERE = re.compile(r"^(127\.\d+\.\d+\.\d+|::1|localhost|None|0\.0\.0\.0)$")


def elsewhere(log: Path) -> set[str]:
    """Events of the log whose address is not this machine."""
    lines = log.read_text().splitlines() if log.exists() else []
    return {line for line in lines if not HERE.match(line.partition(" ")[2])}


def guarded(folder: Path) -> dict[str, str]:
    """An environment in which every Python notes its connections; proxies would hide where they go."""
    guard = folder / "guard"
    guard.mkdir(exist_ok=True)
    (guard / "sitecustomize.py").write_text(GUARD)
    env = environment(ROOTSTOCK_TEST_CONNECTIONS=str(folder / "connections.log"))
    del env["HF_HUB_OFFLINE"]  # must not be needed
    for name in [name for name in env if name.lower().endswith("_proxy")]:
        del env[name]
    return {**env, "PYTHONPATH": f"{guard}:{env['PYTHONPATH']}"}


def test_the_guard_sees_a_connection_of_a_grandchild(tmp_path: Path) -> None:
    program = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import socket; s = socket.socket(); s.settimeout(1); s.connect_ex((\"192.0.2.1\", 9))'])"
    subprocess.run([sys.executable, "-c", program], env=guarded(tmp_path), check=True)
    assert elsewhere(tmp_path / "connections.log") == {"socket.connect 192.0.2.1"}


@pytest.mark.slow
@pytest.mark.timeout(1600)
@pytest.mark.parametrize("mode", [["--no-prefect"], []])
def test_a_whole_run_connects_to_nothing_but_this_machine(project: Project, mode: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli.main", "run", "spec.yaml", *mode],
        cwd=project.folder,
        env=guarded(project.folder),
        capture_output=True,
        text=True,
        check=False,
        timeout=1500,
    )
    assert done.returncode == 0, done.stderr
    assert elsewhere(project.folder / "connections.log") == set()
    if not mode:  # the guard was there: Prefect's own server was talked to
        assert (project.folder / "connections.log").read_text().strip()


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("strace") is None, reason="strace is not installed: the Python guard stands alone"
)
def test_no_library_connects_behind_pythons_back(project: Project) -> None:
    """Compiled code (a Rust HTTP client, say) raises no audit event: watch the system calls themselves."""
    trace = project.folder / "trace"
    watched = [
        "strace", "-f", "--seccomp-bpf", "-qq", "-e", "trace=connect,sendto,sendmsg", "-e", "signal=none", "-o", str(trace),
    ]  # fmt: skip
    done = subprocess.run(
        [*watched, sys.executable, "-m", "flows.cli.main", "run", "spec.yaml", "--no-prefect"],
        cwd=project.folder,
        env=guarded(project.folder),
        capture_output=True,
        text=True,
        check=False,
        timeout=1500,
    )
    if "ptrace" in done.stderr:
        pytest.skip("this machine does not let processes be traced")
    assert done.returncode == 0, done.stderr
    calls = [line for line in trace.read_text().splitlines() if "AF_INET" in line]
    outside = [line for line in calls if not re.search(r'"127\.|"::1"|inet_addr\("127\.|"0\.0\.0\.0"', line)]
    assert outside == []
