"""The flow `backfill`: increments of the past, one after another."""

from pathlib import Path
from typing import Annotated

from prefect import State, flow, get_run_logger
from prefect.states import Completed

from data_contracts.contract import list_contracts
from flows.growing.backfill import backfill, row_of
from flows.orchestration.as_tasks import call_as_task, label_run
from flows.orchestration.events import announce_verdict
from flows.orchestration.form import Overrides, SpecFile, StateFolder, field
from flows.orchestration.page_watch import PageWatch
from flows.orchestration.turns import turn_to_train
from flows.progress.watch import Silent
from flows.run.journey import Outcome, follow
from schemas.errors import UserError
from schemas.reading.load import load_spec
from schemas.spec.run import RunSpec
from tasks.page import artifact_key, show_table
from tasks.stage import stopped

FROM_HINT = "First date (2026-03 or 2026-03-01) or file name; empty: from the beginning."
TO_HINT = "Last date or file name, included; empty: to the end."


@flow(name="backfill", flow_run_name="backfill {spec}")
def backfill_flow(
    spec: SpecFile = "runs/quickstart.yaml",
    start: Annotated[str, field("From", FROM_HINT)] = "",
    stop: Annotated[str, field("To", TO_HINT)] = "",
    overrides: Overrides = (),
    state: StateFolder = ".rootstock",
) -> State[list[dict[str, str]]]:
    """Go back over a stretch of files, one increment for each date or file, in order.

    What the model in use has learned is passed over. What was rejected or rolled back is offered again.
    """
    log = get_run_logger()
    rows: list[dict[str, str]] = []
    try:
        loaded = load_spec(Path(spec), overrides, list_contracts())
        label_run(f"backfill {loaded.name}", [loaded.name])

        def follow_one(now: RunSpec) -> Outcome:
            outcome = follow(now, Path(state), PageWatch(now.name, Silent()), call=call_as_task)
            announce_verdict(now, outcome)
            return outcome

        with turn_to_train(Path(state)):
            for filled in backfill(loaded, Path(state), start or None, stop or None, follow_one):
                rows.append(row_of(filled.place, filled.outcome))
                log.info("%s", rows[-1])
    except UserError as error:
        return stopped(error)
    show_table(rows, key=artifact_key(loaded.name, "backfill"), description="**Backfill.**")
    told = ", ".join(f"{row['place']} {row['verdict']}" for row in rows)
    return Completed(message=told, data=rows)
