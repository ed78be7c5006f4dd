"""Run the flow `continual-training` here, with a Prefect server of its own where there is none."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from flows.progress.terminal import tell
from flows.serving.ahead import loading_ahead
from flows.serving.given_server import without_secret
from flows.serving.server import prefect_server, running_server, server_home
from schemas.errors import TrainingFailed

DELIVERY_SECONDS = 30

if TYPE_CHECKING:
    from flows.run.journey import Outcome


def run_here(file: Path, sets: list[str], state: Path, dask: str | None = None) -> "Outcome":
    """Follow a specification under Prefect; the terminal shows our own progress, Prefect's page everything.

    Prefect reads its settings when it is imported, so they are set first.

    Raises:
        UserError: the stage's own, just as without Prefect; or the server cannot be started, or went away.
    """
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    if not (os.environ.get("PREFECT_API_URL") or running_server(server_home(state))):
        tell("starting Prefect's server (some 20 s the first time; --no-prefect does without)")
    with prefect_server(state, meanwhile=loading_ahead()) as address:
        import httpx

        from flows.continual_training import continual_training
        from tasks.stage import result_of

        page = without_secret(address).removesuffix("/api")
        tell(f"watch the run at {page} (while it lasts)")
        try:
            final = continual_training(
                spec=str(file), overrides=sets, state=str(state), dask=dask or "", return_state=True
            )
        except httpx.ConnectError:
            raise TrainingFailed(
                "the Prefect server went away while the run went on",
                page,
                "run the same command again: what is finished is kept, training goes on from its last checkpoint",
            ) from None
        finally:
            deliver()
    outcome: Outcome = result_of(final)
    return outcome


def deliver() -> None:
    """Send what Prefect still holds back (log lines, the states of tasks) while its server is there to take it."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogHandler

    APILogHandler().flush()
    EventsWorker.drain_all(timeout=DELIVERY_SECONDS)
