"""The life of `rootstock serve`: its server killed, itself stopped and killed, runs cancelled while nobody looks."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from flows.serving.server import free_port
from tasks.release.registry import versions as registry
from tests.command_line import environment
from tests.flows.prefect_api import api_client
from tests.flows.test_serve import RUN_SECONDS, START_SECONDS, Served, checkpoints, wait_until
from tests.tiny import write_tiny

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
LONG = {"spec": "tiny.yaml", "overrides": ["training.steps=200000", "name=long"]}


class Lives:
    """`rootstock serve` over one state folder, started as often as it is stopped."""

    def __init__(self, files: Path):
        self.files, self.port = files, free_port()
        self.api = api_client(f"http://127.0.0.1:{self.port}/api")

    def start(self) -> Served:
        log = self.files / "serve.log"
        with log.open("w") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "flows.cli.main", "serve", "--port", str(self.port)],
                cwd=self.files, env=environment(), stdout=out, stderr=out, text=True, start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored where tests run behind `&`
            )  # fmt: skip
        self.served = Served(process, self.api, self.files)

        def ready() -> bool:
            assert process.poll() is None, log.read_text()
            return "Rootstock is served at" in log.read_text()

        wait_until(ready, START_SECONDS)
        return self.served

    def stop(self, number: int) -> int:
        children = psutil.Process(self.served.process.pid).children(recursive=True)
        os.kill(self.served.process.pid, number)
        code = self.served.process.wait(180)
        wait_until(lambda: not any(alive(child) for child in children), 30)
        return code

    def runs(self) -> list[psutil.Process]:
        children = psutil.Process(self.served.process.pid).children()
        return [child for child in children if "flows.serving.served_run" in child.cmdline()]

    @property
    def log(self) -> str:
        return (self.files / "serve.log").read_text()

    def server(self) -> int:
        (pid,) = [
            child.pid
            for child in psutil.Process(self.served.process.pid).children()
            if "flows.serving.guarded_server" in child.cmdline()
        ]
        return pid


def alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != "zombie"


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lives]:
    lives = Lives(write_tiny(tmp_path_factory.mktemp("lives")))
    lives.start()
    yield lives
    if lives.served.process.poll() is None:
        lives.served.process.kill()
        lives.served.process.wait()


def set_state(lives: Lives, run: str, kind: str) -> None:
    body = {"state": {"type": kind.upper(), "name": kind}}
    lives.served.ask("POST", f"/flow_runs/{run}/set_state", body)


def going_on(lives: Lives, run: str) -> Any:
    return lives.served.run(run)["state_type"] == "RUNNING"


def last_step(files: Path) -> int:
    steps = [int(folder.name.split("-")[1]) for folder in checkpoints(files)]
    return max(steps, default=0)


def test_what_was_going_on_outlives_the_server_and_serve_itself(lives: Lives) -> None:
    served, files = lives.served, lives.files
    run = served.start_run("continual-training", "continual-training", **LONG)
    wait_until(lambda: checkpoints(files), RUN_SECONDS)

    os.kill(lives.server(), signal.SIGKILL)
    begun = last_step(files)
    wait_until(lambda: last_step(files) > begun + 20, 30)  # at full speed, not a step a minute
    wait_until(lambda: "starting it again" in lives.log, 30)

    def answers() -> bool:
        try:
            return served.api.get("/health").status_code == 200
        except httpx.TransportError:
            return False

    wait_until(answers, START_SECONDS)
    assert going_on(lives, run)

    edit = {"parameters": {"state": ".rootstock", "replay_ratio": 0.125}}
    plain = served.deployment("continual-training", "continual-training")["id"]
    served.ask("PATCH", f"/deployments/{plain}", edit)
    nightly = served.deployment("continual-training-nightly", "continual-training")
    (cron,) = nightly["schedules"]
    served.ask("PATCH", f"/deployments/{nightly['id']}/schedules/{cron['id']}", {"active": False})
    look = served.deployment("look-for-data", "look-for-data")["id"]
    served.ask("POST", f"/deployments/{look}/pause_deployment")

    assert lives.stop(signal.SIGTERM) == 143
    assert "the next start goes on with" in lives.log
    stopped = last_step(files)
    assert stopped > begun

    served = lives.start()
    wait_until(lambda: going_on(lives, run), 60)
    wait_until(lambda: last_step(files) > stopped, 120)
    assert (
        served.deployment("continual-training", "continual-training")["parameters"]["replay_ratio"] == 0.125
    )
    assert [s["active"] for s in served.deployment("continual-training-nightly", "continual-training")["schedules"]] == [False]  # fmt: skip
    assert served.deployment("look-for-data", "look-for-data")["paused"]
    assert not served.deployment("promote", "promote")["paused"]

    lives.stop(signal.SIGKILL)
    lives.start()
    assert "was going on, but its process is gone: taken up" in lives.log
    wait_until(lambda: going_on(lives, run), 60)
    set_state(lives, run, "Cancelling")
    assert lives.served.wait(run)["state_type"] == "CANCELLED"


def test_a_run_that_was_cancelled_while_nobody_looked_is_not_promoted(lives: Lives) -> None:
    served = lives.served
    run = served.start_run("continual-training", "continual-training", spec="tiny.yaml")
    wait_until(lambda: going_on(lives, run), 60)
    os.kill(served.process.pid, signal.SIGSTOP)  # nobody tells the run
    try:
        set_state(lives, run, "Cancelling")
        (process,) = lives.runs()
        wait_until(lambda: not alive(process), RUN_SECONDS)
    finally:
        os.kill(served.process.pid, signal.SIGCONT)
    assert served.wait(run)["state_type"] == "CANCELLED"
    assert registry.champion(lives.files / ".rootstock", "tiny") is None


def test_what_was_missed_runs_once_and_a_run_that_waits_has_no_process(lives: Lives) -> None:
    served = lives.served
    check = served.deployment("check-contracts", "check-contracts")["id"]
    form = {"contract": "general_text", "data": ["general.txt"]}
    schedule = {"schedule": {"interval": 3}, "active": True, "parameters": form}
    [created] = served.ask("POST", f"/deployments/{check}/schedules", [schedule])
    begun = {"deployment_id": {"any_": [check]}}
    wait_until(lambda: served.ask("POST", "/flow_runs/filter", {"flow_runs": begun}), 60)
    assert lives.stop(signal.SIGHUP) == 143
    time.sleep(8)
    served = lives.start()
    assert lives.log.count("missed: it runs as soon as its turn comes") == 1
    served.ask("DELETE", f"/deployments/{check}/schedules/{created['id']}")

    first = served.start_run("continual-training", "continual-training", **LONG)
    wait_until(lambda: going_on(lives, first), 60)
    more = [
        served.start_run("continual-training", "continual-training", **{**LONG, "learning_rate": rate})
        for rate in (0.01, 0.03, 0.05, 0.07, 0.09, 0.11, 0.13)
    ]
    wait_until(lambda: {served.run(run)["state_name"] for run in more} == {"AwaitingTurn"}, 60)
    quick = served.start_run("check-contracts", "check-contracts", **form)
    assert served.wait(quick)["state_type"] == "COMPLETED", "those that wait take no place"
    for run in (*more, first):
        set_state(lives, run, "Cancelling")
    assert served.wait(first)["state_type"] == "CANCELLED"
    assert lives.stop(signal.SIGINT) == 130
