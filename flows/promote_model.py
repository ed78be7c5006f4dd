"""The flow `promote`: a person puts a model in use that passed and waits."""

from pathlib import Path
from typing import Annotated

from prefect import State, flow
from prefect.states import Completed

from flows.form import StateFolder, field
from schemas.artifacts import Decision
from schemas.errors import UserError
from tasks import promote as stage
from tasks.page import show_verdict
from tasks.release.registry import Registered
from tasks.stage import result_of, stopped

RUN_HINT = "The run's id, such as quickstart-1a2b3c4d5e: the name of its flow run and of its folder in runs/."


@flow(name="promote", flow_run_name="promote-{run}")
def promote_model(
    run: Annotated[str, field("Run", RUN_HINT)],
    state: StateFolder = ".rootstock",
) -> State[Registered]:
    """Put a run's model in use.

    Only a model whose decision passes, and whose files are the very ones the decision was made on. There is no way
    around it: what was rejected must be trained or measured anew. Holds no GPU while a person thinks.
    """
    folder = Path(state) / "runs" / run
    try:
        model: Registered = result_of(stage.promote(Path(state), run))
    except UserError as error:
        return stopped(error)
    show_verdict(
        model.name, run, folder, Decision.model_validate_json((folder / "decision.json").read_bytes())
    )
    message = f"{model.run_id} is champion of {model.name} (version {model.version})"
    return Completed(name="Promoted", message=message, data=model)
