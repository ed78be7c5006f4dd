"""prefect.yaml deploys to a work pool what `rootstock serve` serves on one machine."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL

from flows.serving.serve import OVERLAP, deployments
from tests.command_line import ROOT, environment

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_api")]
POOL = "rootstock"
STRATEGIES = {"skip": "CANCEL_NEW", "queue": "ENQUEUE"}


def prefect(*arguments: str) -> str:
    """Run Prefect's own command line against the test's server, in this project's folder."""
    env = environment(
        PREFECT_API_URL=str(PREFECT_API_URL.value()), PREFECT_HOME=os.environ["PREFECT_HOME"], PWD=str(ROOT)
    )
    command = [sys.executable, "-m", "prefect", "--no-prompt", *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def deployed(prefect_api: None) -> dict[str, Any]:
    """What `prefect deploy --all` makes of prefect.yaml, by name."""
    prefect("work-pool", "create", POOL, "--type", "process")
    prefect("deploy", "--all")
    with get_client(sync_client=True) as client:
        return {deployment.name: deployment for deployment in client.read_deployments()}


def test_both_ways_offer_the_same_deployments(deployed: dict[str, Any]) -> None:
    served = {deployment.name: deployment for deployment in deployments(Path(".rootstock"))}
    assert deployed.keys() == served.keys()
    for name, ours in served.items():
        theirs = deployed[name]
        assert theirs.entrypoint == ours.entrypoint
        assert theirs.parameters == ours.parameters
        assert theirs.tags == ours.tags
        assert theirs.description == ours.description
        assert theirs.parameter_openapi_schema["properties"] == ours._parameter_openapi_schema.properties
        assert theirs.work_pool_name == POOL


def test_both_ways_start_at_the_same_times_and_skip_what_overlaps(deployed: dict[str, Any]) -> None:
    for ours in deployments(Path(".rootstock")):
        theirs = deployed[ours.name]
        assert [plan.schedule.cron for plan in theirs.schedules] == [
            plan.schedule.cron for plan in ours.schedules or []
        ]
        assert {plan.schedule.timezone or "UTC" for plan in theirs.schedules} <= {"UTC"}
        limit = theirs.global_concurrency_limit
        overlap = OVERLAP.get(ours.name)
        assert (limit.limit if limit else None) == (1 if overlap else None)
        assert ours.concurrency_limit is None, "served_runs.py sees to it"
        if overlap:
            assert theirs.concurrency_options.collision_strategy.value == STRATEGIES[overlap]


def test_both_ways_start_on_the_same_events(deployed: dict[str, Any]) -> None:
    with get_client(sync_client=True) as client:
        for ours in deployments(Path(".rootstock")):
            owner = f"prefect.deployment.{deployed[ours.name].id}"
            theirs = client._client.get(f"/automations/related-to/{owner}").json()
            assert len(theirs) == len(ours.triggers), ours.name
            for found, trigger in zip(theirs, ours.triggers, strict=True):
                assert set(found["trigger"]["expect"]) == trigger.expect
                assert found["trigger"]["match"] == trigger.match.model_dump()
                assert found["actions"][0]["parameters"] == trigger.parameters


def test_a_worker_runs_what_was_deployed(deployed: dict[str, Any]) -> None:
    form = {"contract": "general_text", "data": ["assets/general/heldout/en_*.txt"]}
    with get_client(sync_client=True) as client:
        run = client.create_flow_run_from_deployment(deployed["check-contracts"].id, parameters=form)
        prefect("worker", "start", "--pool", POOL, "--run-once")
        ended = client.read_flow_run(run.id)
    assert ended.state_type.value == "COMPLETED", ended.state
