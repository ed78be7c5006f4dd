"""Serve the workflows on this machine: a Prefect server, its page with a form for each, and the schedules."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.reports import serve_reports
from flows.server import is_healthy, prefect_server, running_server, server_home
from flows.terminal import say
from schemas.errors import UserError

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.deployments.runner import RunnerDeployment

NIGHTLY_CRON = "0 2 * * *"
RUNS_AT_ONCE = 6
"""One of them trains (`turns.py`): a machine that swaps trains nothing. Those that wait for their turn hold little memory, and
leave room for a check or a promotion."""
POLL_SECONDS = 2
"""How soon a run that somebody asked for begins."""


def serve_here(state: Path, port: int) -> None:
    """Serve until Ctrl-C or SIGTERM; everything that was started stops with us.

    Raises:
        UserError: the port is taken, the state is served already, or the server cannot be started.
    """
    os.environ.setdefault("PREFECT_RUNNER_POLL_FREQUENCY", str(POLL_SECONDS))
    if not os.environ.get("PREFECT_API_URL"):
        _require_alone(state, port)
        say("starting Prefect's server (some 20 s the first time)", flush=True)
    with prefect_server(state, port, schedules=True) as address, serve_reports(state, port + 1) as reports:
        from prefect import serve

        os.environ["ROOTSTOCK_REPORTS"] = reports  # runs are child processes: they link to it

        say(
            f"Rootstock is served at {address.removesuffix('/api')}/deployments (Ctrl-C stops it)", flush=True
        )
        serve(*deployments(state), limit=RUNS_AT_ONCE, print_starting_message=False)


def _require_alone(state: Path, port: int) -> None:
    if address := running_server(server_home(state)):
        raise UserError(
            "this state folder is being served already",
            address.removesuffix("/api"),
            "open that page, or stop the other one",
        )
    if is_healthy(f"http://127.0.0.1:{port}/api"):
        raise UserError(
            f"another Prefect server answers on port {port}",
            f"http://127.0.0.1:{port}",
            f"choose another --port, or use that server: export PREFECT_API_URL=http://127.0.0.1:{port}/api",
        )


def deployments(state: Path) -> "list[RunnerDeployment]":
    """What is served; prefect.yaml deploys the same to a work pool (a test keeps the two alike)."""
    from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
    from prefect.deployments.runner import RunnerDeployment
    from prefect.events import DeploymentEventTrigger
    from prefect.types.entrypoint import EntrypointType

    from flows.backfill_flow import backfill_flow
    from flows.check_contracts import check_contracts
    from flows.choose_replay_flow import choose_replay_flow
    from flows.compare_methods import compare_methods
    from flows.compare_remedies_flow import compare_remedies_flow
    from flows.continual_training import continual_training
    from flows.evaluate_model_flow import evaluate_model_flow
    from flows.events import ARRIVED
    from flows.look_for_data import look_for_data
    from flows.promote_model import promote_model

    one_at_a_time = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)
    one_after_another = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE)
    here = {"state": str(state)}
    on_new_data = DeploymentEventTrigger(
        name="new data",
        expect={ARRIVED},
        match={"prefect.resource.id": "rootstock.model.*"},
        parameters={
            **here,
            "spec": {"template": "{{ event.resource['rootstock.spec'] }}", "__prefect_kind": "jinja"},
        },
    )

    def deploy(flow: "Flow[..., Any]", name: str, **settings: Any) -> RunnerDeployment:
        # named by module: the folder of the data need not be the folder of the code
        return RunnerDeployment.from_flow(
            flow, name, entrypoint_type=EntrypointType.MODULE_PATH, tags=["rootstock"], **settings
        )

    return [
        deploy(continual_training, "continual-training", parameters=here),
        deploy(
            continual_training,
            "continual-training-nightly",
            parameters={**here, "spec": "runs/quickstart.yaml"},
            cron=NIGHTLY_CRON,
            concurrency_limit=one_at_a_time,
        ),
        deploy(
            continual_training,
            "continual-training-on-new-data",
            parameters=here,
            triggers=[on_new_data],
            concurrency_limit=one_after_another,
        ),
        deploy(look_for_data, "look-for-data", parameters=here),
        deploy(backfill_flow, "backfill", parameters=here, concurrency_limit=one_after_another),
        deploy(check_contracts, "check-contracts"),
        deploy(evaluate_model_flow, "evaluate-model", parameters=here, concurrency_limit=one_after_another),
        deploy(compare_methods, "compare-methods", parameters=here),
        deploy(compare_remedies_flow, "compare-remedies", parameters=here),
        deploy(choose_replay_flow, "choose-replay", parameters=here),
        deploy(promote_model, "promote", parameters=here),
    ]
