"""Serve the workflows on this machine: a Prefect server, its page with a form for each, and the schedules."""

import os
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.progress.terminal import say
from flows.serving.deployed import deploy
from flows.serving.reports import serve_reports
from flows.serving.served_from import served_alone
from flows.serving.server import is_healthy, prefect_server, server_home
from schemas.errors import UserError

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.deployments.runner import RunnerDeployment

NIGHTLY_CRON = "0 2 * * *"
RUNS_AT_ONCE = 6
"""One of them trains (`turns.py`): a machine that swaps trains nothing. One that waits for its turn is not counted."""
OVERLAP = {
    "continual-training-nightly": "skip",
    "continual-training-on-new-data": "queue",
    "backfill": "queue",
    "evaluate-model": "queue",
}
"""What becomes of a run while another of its deployment goes on (`skip`: with the same parameters); of any other, both run. No limit of Prefect's server: its slots
stay taken when a process is killed, and a lease that cannot be renewed ends the run that holds it."""


def serve_here(
    state: Path, port: int, password_file: Path | None = None, restore: Collection[str] = ()
) -> None:
    """Serve until Ctrl-C, SIGTERM or a closed terminal; what is going on then is taken up by the next start.

    `restore`: deployments that were deleted on the page, to be made anew.

    Raises:
        UserError: the port is taken, the state is served already or from another folder, or the server cannot be started.
    """
    ours = not os.environ.get("PREFECT_API_URL")
    with served_alone(state, port) as named:
        if ours:
            _require_free(port)
            say("starting Prefect's server (some 20 s the first time)", flush=True)
        _serve(named, port, password_file, restore, ours)


def _serve(state: Path, port: int, password_file: Path | None, restore: Collection[str], ours: bool) -> None:
    with (
        prefect_server(state, port, schedules=True, password_file=password_file) as address,
        serve_reports(state, port + 1) as reports,
    ):
        from prefect.client.orchestration import get_client

        from flows.orchestration.turns import TRAINS
        from flows.serving.lost_runs import settle_lost, skip_missed
        from flows.serving.served_runs import Rules, ServedRuns

        os.environ["ROOTSTOCK_REPORTS"] = reports  # runs are child processes: they link to it
        wanted, home = deployments(state), server_home(state)
        with get_client(sync_client=True) as client:
            named = deploy(client, wanted, home, restore)
            settle_lost(client, named, home, ours)
            skip_missed(client, named, [one for one, name in named.items() if OVERLAP.get(name) == "skip"])
        trains = {one.name: one.flow_name in TRAINS for one in wanted}
        rules = {one: Rules(name, trains[name], OVERLAP.get(name)) for one, name in named.items()}
        page = address.removesuffix("/api")
        say(f"Rootstock is served at {page}/deployments (Ctrl-C stops it)", flush=True)
        ServedRuns(home, rules, RUNS_AT_ONCE).serve()


def _require_free(port: int) -> None:
    if is_healthy(f"http://127.0.0.1:{port}/api"):
        raise UserError(
            f"another Prefect server answers on port {port}",
            f"http://127.0.0.1:{port}",
            f"choose another --port, or use that server: export PREFECT_API_URL=http://127.0.0.1:{port}/api",
        )


def deployments(state: Path) -> "list[RunnerDeployment]":
    """What is served; prefect.yaml deploys the same to a work pool (a test keeps the two alike)."""
    from prefect.deployments.runner import RunnerDeployment
    from prefect.events import DeploymentEventTrigger
    from prefect.types.entrypoint import EntrypointType

    from flows.backfill import backfill_flow
    from flows.check_contracts import check_contracts
    from flows.choose_replay import choose_replay_flow
    from flows.compare_methods import compare_methods
    from flows.compare_remedies import compare_remedies_flow
    from flows.continual_training import continual_training
    from flows.evaluate_model import evaluate_model_flow
    from flows.look_for_data import look_for_data
    from flows.orchestration.events import ARRIVED
    from flows.promote_model import promote_model

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
        ),
        deploy(
            continual_training,
            "continual-training-on-new-data",
            parameters=here,
            triggers=[on_new_data],
        ),
        deploy(look_for_data, "look-for-data", parameters=here),
        deploy(backfill_flow, "backfill", parameters=here),
        deploy(check_contracts, "check-contracts"),
        deploy(evaluate_model_flow, "evaluate-model", parameters=here),
        deploy(compare_methods, "compare-methods", parameters=here),
        deploy(compare_remedies_flow, "compare-remedies", parameters=here),
        deploy(choose_replay_flow, "choose-replay", parameters=here),
        deploy(promote_model, "promote", parameters=here),
    ]
