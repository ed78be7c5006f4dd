"""A run that `rootstock serve` starts: Prefect's engine, but nothing taken from files that lie in the working directory.

`python -P -m flows.serving.served_run`: Prefect would start `python -m prefect.engine`, which reads its settings before any line of
ours.
"""

import os
import sys
from typing import Any
from uuid import UUID

from flows.environment.surroundings import quiet_environment
from flows.progress.failures import defect, fail, machine_error
from flows.serving.own_code import load_only_ours
from schemas.errors import UserError
from tasks.storage.children import SERVED

COMMAND = (sys.executable, "-P", "-m", "flows.serving.served_run")


def leave_end_to_parent() -> None:
    """Say nothing of our own end when we are asked to end: who asked knows whether the run is cancelled or taken up again.

    Prefect would tell its server *Crashed*, and whatever listens for that would hear it.
    """
    from prefect._internal import control_listener

    control_listener._set_intent("relinquish")
    os.environ[SERVED] = "1"


def main(run: UUID) -> None:
    """Run what `prefect.engine` would; a user's mistake ends as its three lines, without a traceback.

    Raises:
        SystemExit: as Prefect ends it, or after a mistake.
    """
    from prefect import flow_engine
    from prefect.engine import handle_engine_signals
    from prefect.logging.loggers import flow_run_logger

    load_only_ours(flow_engine)
    mistake = None
    with handle_engine_signals(run):
        flow_run = flow_engine.load_flow_run(run)
        logger: Any = flow_run_logger(flow_run)
        try:
            flow = flow_engine.load_flow(flow_run)
        except UserError as error:
            _refuse(run, error)
            logger.error(str(error))
            mistake = error
        else:
            mistake = _mistake(flow_engine.run_flow(flow, flow_run, error_logger=logger, return_type="state"))
    if mistake is not None:
        fail(mistake)


def _mistake(state: Any) -> UserError | None:
    """What a run failed with, as the command line would tell it: a defect of ours shows where it happened."""
    from prefect.exceptions import ParameterTypeError

    try:
        if state.is_failed() or state.is_crashed():
            state.result()
    except UserError as error:
        return error
    except ParameterTypeError as error:
        fix = "start it again, from the form on the page"
        return UserError(" ".join(str(error).split()), "the parameters of the flow run", fix)
    except Exception as error:
        return machine_error(error) or defect(error)
    return None


def _refuse(run: UUID, error: UserError) -> None:
    from prefect.client.orchestration import get_client
    from prefect.states import Failed

    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run, Failed(message=str(error)), force=True)


if __name__ == "__main__":
    quiet_environment()
    leave_end_to_parent()
    main(UUID(os.environ["PREFECT__FLOW_RUN_ID"]))
