"""`rootstock serve` with a growing specification: new data starts a run, a person approves it, then nothing is new."""

from collections.abc import Iterator
from typing import Any

import pytest

from tasks.release.run.run_folder import dump_yaml
from tests.flows.test_increments import TRADES, growing, rows, write
from tests.flows.test_serve import RUN_SECONDS, Served, served, wait_until

__all__ = ["served"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def growing_and_served(served: Served) -> Iterator[Served]:
    files = served.files
    write(files / "new" / "2026-03-01.txt", rows(TRADES[0], 80))
    spec = growing(files, promotion={"min_gain": 0, "max_forgetting": 5, "approval": "manual"})
    (files / "grown.yaml").write_text(dump_yaml(spec.model_dump(mode="json", exclude_none=True)))
    yield served
    served.process.terminate()
    served.process.wait(120)


def runs_of(served: Served, deployment: Any) -> list[Any]:
    wanted = {"flow_runs": {"deployment_id": {"any_": [deployment["id"]]}}}
    found: list[Any] = served.ask("POST", "/flow_runs/filter", wanted)
    return found


def test_new_data_starts_a_run_a_person_approves_it_and_then_nothing_is_new(
    growing_and_served: Served,
) -> None:
    served = growing_and_served
    looked = served.wait(served.start_run("look-for-data", "look-for-data", spec="grown.yaml"))
    assert looked["state_name"] == "DataArrived", looked["state"]

    training = served.deployment("continual-training-on-new-data", "continual-training")
    wait_until(lambda: runs_of(served, training), RUN_SECONDS)
    run = served.wait(runs_of(served, training)[0]["id"])
    assert run["state_name"] == "AwaitingApproval", run["state"]

    promote = served.deployment("promote", "promote")
    wait_until(lambda: [r for r in runs_of(served, promote) if r["state_name"] == "Suspended"], RUN_SECONDS)
    (asking,) = runs_of(served, promote)
    assert asking["parameters"] == {"run": run["name"], "ask": True, "state": ".rootstock"}
    described = served.ask(
        "POST", f"/flow_runs/{asking['id']}/input/filter", {"prefix": "suspended-approval", "limit": 10}
    )
    shown = " ".join(str(item["value"]) for item in described)
    assert "report.html" in shown
    assert "| gain | domain | base |" in shown

    answer = {"run_input": {"approve": True}}
    assert served.ask("POST", f"/flow_runs/{asking['id']}/resume", answer)["status"] == "ACCEPT"
    assert served.wait(asking["id"])["state_name"] == "Promoted"
    marked = (served.files / ".rootstock" / "increments" / "trades.json").read_text()
    assert run["name"] in marked

    again = served.wait(served.start_run("continual-training", "continual-training", spec="grown.yaml"))
    assert (again["state_type"], again["state_name"]) == ("COMPLETED", "NoNewData"), again["state"]
    assert (
        served.wait(served.start_run("look-for-data", "look-for-data", spec="grown.yaml"))["state_name"]
        == "NoNewData"
    )
