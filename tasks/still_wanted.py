"""Before anything is put in use: is this run still wanted? A cancelled run leaves no trace in what is in use."""

import time

import httpx
from prefect import get_run_logger, runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound

from schemas.errors import ExitCode, MachineFailed, TrainingFailed

SECONDS_TO_ASK = 300.0
"""A server that was killed is started again in half a minute; one that does not come back is not waited for in vain."""
SECONDS_BETWEEN = 2.0


def require_wanted() -> None:
    """Ask Prefect's server whether this very flow run is still to go on; also if the server was away meanwhile.

    Raises:
        UserError: it was cancelled, paused, deleted or given up; or nobody answers.
    """
    run = runtime.flow_run.id
    if run is None:
        return
    found = _ask(run)
    if found is not None and found.state is not None and found.state.is_running():
        return
    was = "deleted" if found is None or found.state is None else str(found.state.name).lower()
    refused = TrainingFailed(
        f"this run was stopped on Prefect's page ({was}): nothing was put in use",
        f"flow run {run}",
        "start it again if it is wanted after all: everything up to the verdict is kept",
    )
    refused.exit_code = ExitCode.TERMINATED
    raise refused


def _ask(run: str) -> FlowRun | None:
    deadline, told = time.monotonic() + SECONDS_TO_ASK, False
    while True:
        try:
            with get_client(sync_client=True) as client:
                return client.read_flow_run(run)  # type: ignore[arg-type]
        except ObjectNotFound:
            return None
        except httpx.HTTPError:
            if time.monotonic() > deadline:
                raise MachineFailed(
                    "Prefect's server does not answer: nobody can say whether this run was cancelled, nothing was put in use",
                    str(runtime.flow_run.api_url),
                    "start the server again, then this run: it goes on where it was",
                ) from None
        if not told:
            told = True
            get_run_logger().warning(
                "Prefect's server does not answer: waiting before anything is put in use"
            )
        time.sleep(SECONDS_BETWEEN)
