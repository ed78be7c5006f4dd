"""Serve the workflows on this machine: a Prefect server, its page with a form for each, and the schedules."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.server import is_healthy, prefect_server, running_server, server_home
from schemas.errors import UserError

if TYPE_CHECKING:
    from prefect.deployments.runner import RunnerDeployment

NIGHTLY_CRON = "0 2 * * *"
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
        print("starting Prefect's server (some 20 s the first time)", flush=True)
    with prefect_server(state, port, schedules=True) as address:
        from prefect import serve

        print(
            f"Rootstock is served at {address.removesuffix('/api')}/deployments (Ctrl-C stops it)", flush=True
        )
        serve(*deployments(state), print_starting_message=False)


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
    from prefect.types.entrypoint import EntrypointType

    from flows.check_contracts import check_contracts
    from flows.continual_training import continual_training
    from flows.evaluate_model_flow import evaluate_model_flow
    from flows.promote_model import promote_model

    always: dict[str, Any] = {"entrypoint_type": EntrypointType.MODULE_PATH, "tags": ["rootstock"]}
    here = {"state": str(state)}
    return [
        continual_training.to_deployment("continual-training", parameters=here, **always),
        continual_training.to_deployment(
            "continual-training-nightly",
            cron=NIGHTLY_CRON,
            parameters={**here, "spec": "runs/quickstart.yaml"},
            concurrency_limit=ConcurrencyLimitConfig(
                limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW
            ),
            **always,
        ),
        check_contracts.to_deployment("check-contracts", **always),
        evaluate_model_flow.to_deployment("evaluate-model", parameters=here, **always),
        promote_model.to_deployment("promote", parameters=here, **always),
    ]
