"""`rootstock serve` as people use it: a form filled in, a schedule, a run cancelled, Ctrl-C."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from flows.orchestration.turns import WAITING
from flows.serving.server import free_port
from tests.command_line import environment
from tests.flows.prefect_api import api_client
from tests.tiny import write_tiny

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
START_SECONDS, RUN_SECONDS = 300, 600


@dataclass(frozen=True)
class Served:
    """A running `rootstock serve` and its API."""

    process: subprocess.Popen[str]
    api: httpx.Client
    files: Path

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        answer = self.api.request(method, path, json=body).raise_for_status()
        return answer.json() if answer.content else None

    def deployment(self, name: str, flow: str) -> Any:
        return self.ask("GET", f"/deployments/name/{flow}/{name}")

    def start_run(self, name: str, flow: str, **form: Any) -> str:
        deployment = self.deployment(name, flow)["id"]
        return str(self.ask("POST", f"/deployments/{deployment}/create_flow_run", {"parameters": form})["id"])

    def run(self, run: str) -> Any:
        return self.ask("GET", f"/flow_runs/{run}")

    def wait(self, run: str) -> Any:
        wait_until(lambda: self.run(run)["state_type"] in ENDED, RUN_SECONDS)
        return self.run(run)

    def logs(self, run: str) -> Any:
        return self.ask("POST", "/logs/filter", {"logs": {"flow_run_id": {"any_": [run]}}})

    def filtered(self, what: str, run: str) -> Any:
        return self.ask("POST", f"/{what}/filter", {"flow_runs": {"id": {"any_": [run]}}})


def wait_until(reached: Callable[[], Any], seconds: float) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := reached()):
        assert time.monotonic() < deadline, "nothing happened in time"
        time.sleep(0.3)
    return found


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    files = write_tiny(tmp_path_factory.mktemp("served"))
    port = free_port()
    with (files / "serve.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.cli.main", "serve", "--port", str(port)],
            cwd=files, env=environment(), stdout=log, stderr=log, text=True, start_new_session=True,
        )  # fmt: skip
    with api_client(f"http://127.0.0.1:{port}/api") as api:

        def ready() -> bool:
            assert process.poll() is None, (files / "serve.log").read_text()
            try:
                return api.get("/deployments/name/promote/promote").status_code == 200
            except httpx.TransportError:
                return False

        wait_until(ready, START_SECONDS)
        yield Served(process, api, files)
    if process.poll() is None:
        process.kill()
        process.wait()


def test_the_form_trains_a_model_and_the_page_shows_it(served: Served) -> None:
    fields = served.deployment("continual-training", "continual-training")["parameter_openapi_schema"][
        "properties"
    ]
    assert sorted(fields, key=lambda name: fields[name]["position"])[:3] == ["spec", "replay_ratio", "method"]
    started = served.start_run(
        "continual-training", "continual-training", spec="tiny.yaml", replay_ratio=0.4, method="full",
        learning_rate=0.01, overrides=["training.seed=3"],
    )  # fmt: skip
    run = served.wait(started)
    assert (run["state_type"], run["state_name"]) == ("COMPLETED", "Promoted"), run["state"]
    folder = served.files / ".rootstock" / "runs" / run["name"]
    resolved = (folder / "spec.yaml").read_text()
    for line in ("replay_ratio: 0.4", "learning_rate: 0.01", "seed: 3"):
        assert line in resolved
    assert {"rootstock", "tiny", "full", "replay 0.4"} <= set(run["tags"])
    keys = {artifact["key"] for artifact in served.filtered("artifacts", started)}
    assert {
        f"tiny-{what}"
        for what in ("ledger", "contracts", "mixture", "suites", "training", "verdict", "report")
    } <= keys
    assert {task["state_type"] for task in served.filtered("task_runs", started)} == {"COMPLETED"}


def test_a_form_with_a_wrong_value_is_refused_before_anything_runs(served: Served) -> None:
    deployment = served.deployment("continual-training", "continual-training")["id"]
    for wrong in ({"method": "magic"}, {"replay_ratio": 1.5}, {"learning_rate": "fast"}):
        answer = served.api.post(f"/deployments/{deployment}/create_flow_run", json={"parameters": wrong})
        assert answer.status_code in (409, 422), answer.text


def test_the_other_deployments_work(served: Served) -> None:
    [run] = [folder.name for folder in (served.files / ".rootstock" / "runs").iterdir()][:1]
    evaluated = served.wait(
        served.start_run(
            "evaluate-model", "evaluate-model", model=f".rootstock/runs/{run}/model", spec="tiny.yaml"
        )
    )
    assert evaluated["state_type"] == "COMPLETED", evaluated["state"]
    assert "domain" in evaluated["state"]["message"]
    assert "tiny-evaluation" in {a["key"] for a in served.filtered("artifacts", evaluated["id"])}
    promoted = served.wait(served.start_run("promote", "promote", run=run))
    assert promoted["state_name"] == "Promoted", promoted["state"]


def test_a_schedule_fires(served: Served) -> None:
    deployment = served.deployment("check-contracts", "check-contracts")["id"]
    form = {"contract": "general_text", "data": ["general.txt"]}
    schedule = {"schedule": {"interval": 5}, "active": True, "parameters": form}
    [created] = served.ask("POST", f"/deployments/{deployment}/schedules", [schedule])

    def fired() -> Any:
        begun = {"type": {"not_any_": ["SCHEDULED"]}}
        wanted = {"flow_runs": {"deployment_id": {"any_": [deployment]}, "state": begun}}
        return served.ask("POST", "/flow_runs/filter", wanted)

    wait_until(fired, RUN_SECONDS)
    served.ask("DELETE", f"/deployments/{deployment}/schedules/{created['id']}")  # once is enough
    run = served.wait(fired()[0]["id"])
    assert run["auto_scheduled"]
    assert run["state_type"] == "COMPLETED", run["state"]
    assert "general-text-contracts" in {a["key"] for a in served.filtered("artifacts", run["id"])}


def test_two_trainings_of_different_names_take_turns(served: Served) -> None:
    asked = [[f"name={name}", f"training.seed={seed}"] for name, seed in (("one", 11), ("another", 12))]
    started = [
        served.start_run("continual-training", "continual-training", spec="tiny.yaml", overrides=overrides)
        for overrides in asked
    ]
    for run in started:
        assert served.wait(run)["state_name"] == "Promoted", served.run(run)["state"]
    states = [served.ask("GET", f"/flow_run_states/?flow_run_id={run}") for run in started]
    assert sorted([state["message"] for state in one].count(WAITING) for one in states) == [0, 1]
    first, second = sorted((served.filtered("task_runs", run) for run in started), key=began)
    assert max(task["end_time"] for task in first) <= began(second)


def test_the_nightly_run_is_skipped_while_one_goes_on(served: Served) -> None:
    nightly = served.deployment("continual-training-nightly", "continual-training")
    assert [s["schedule"]["cron"] for s in nightly["schedules"]] == ["0 2 * * *"]
    long = {"spec": "tiny.yaml", "overrides": ["training.steps=20000"]}
    first = served.start_run("continual-training-nightly", "continual-training", **long)
    wait_until(lambda: checkpoints(served.files), RUN_SECONDS)
    second = served.wait(served.start_run("continual-training-nightly", "continual-training", **long))
    assert second["state_type"] == "CANCELLED"
    assert served.run(first)["state_type"] == "RUNNING"

    served.ask(
        "POST", f"/flow_runs/{first}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}}
    )
    run = served.wait(first)
    assert run["state_type"] == "CANCELLED"
    assert checkpoints(served.files), "a cancelled training keeps its last checkpoint"
    wait_until(lambda: not trainings(served), 60)


def test_stopping_to_serve_stops_everything(served: Served) -> None:
    """Last of its module: also a training that goes on is stopped, at a checkpoint."""
    long = {"spec": "tiny.yaml", "overrides": ["training.steps=20001", "name=last"]}
    served.start_run("continual-training", "continual-training", **long)
    before = len(checkpoints(served.files))
    wait_until(lambda: len(checkpoints(served.files)) > before, RUN_SECONDS)
    started = psutil.Process(served.process.pid).children(recursive=True)
    assert len(started) >= 2, "a server and a run"
    os.kill(served.process.pid, signal.SIGTERM)
    served.process.wait(120)
    assert served.process.returncode == 143, (served.files / "serve.log").read_text()[-2000:]
    wait_until(lambda: not [p for p in started if p.is_running() and p.status() != "zombie"], 60)
    assert not (served.files / ".rootstock" / "prefect" / "server.json").exists()


def began(tasks: Any) -> str:
    """When the first of a run's tasks began; times of one server sort as text."""
    return min(str(task["start_time"]) for task in tasks)


def checkpoints(files: Path) -> list[Path]:
    return list((files / ".rootstock" / "data").glob(".train-*.work/checkpoints/step-*"))


def trainings(served: Served) -> list[psutil.Process]:
    children = psutil.Process(served.process.pid).children(recursive=True)
    return [p for p in children if p.status() != "zombie" and "server" not in " ".join(p.cmdline())]
