"""The flow `promote`: a person puts a model in use; asked for, with the report before their eyes."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

from prefect import State, flow
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from prefect.states import Completed
from pydantic import Field

from flows.orchestration.events import announce_promotion
from flows.orchestration.form import StateFolder, field
from schemas.errors import UserError
from schemas.registered_names import require_run
from tasks import promote as stage
from tasks.page import report_link, show_verdict, verdict_markdown
from tasks.release.pages.markdown import inline
from tasks.release.promotion.promotion import read_decision
from tasks.release.registry.versions import Registered
from tasks.stage import result_of, stopped

RUN_HINT = "The run's id, such as quickstart-1a2b3c4d5e: the name of its flow run and of its folder in runs/."
ASK_HINT = (
    "Show the verdict and the report first, and wait for an answer (Resume); nothing is held meanwhile."
)
REASON_HINT = (
    "Only for a model that did not pass: why it is put in use all the same. Kept in history and report."
)
PATIENCE = timedelta(days=90)


class Approval(RunInput):
    """What the person who looks at the report answers."""

    approve: bool = Field(default=False, title="Put it in use", description="No: it stays where it is.")


@flow(name="promote", flow_run_name="promote-{run}")
def promote_model(
    run: Annotated[str, field("Run", RUN_HINT)],
    ask: Annotated[bool, field("Ask first", ASK_HINT)] = False,
    force_because: Annotated[str, field("Force, because", REASON_HINT)] = "",
    state: StateFolder = ".rootstock",
) -> State[Registered]:
    """Put a run's model in use.

    Only a model whose decision passes, and whose files are the very ones the decision was made on; or by force, with a
    reason that is kept. Holds neither a GPU nor a process while a person thinks.
    """
    try:
        folder = Path(state) / "runs" / require_run(run)
    except UserError as error:
        return stopped(error)
    try:
        if ask and not _approved(run, folder):
            return Completed(name="NotApproved", message=f"{run} was not approved; it is not in use")
        model: Registered = result_of(stage.promote(Path(state), run, force_because or None))
    except UserError as error:
        return stopped(error)
    show_verdict(model.name, run, folder, read_decision(folder))
    announce_promotion(model.name, run, forced=bool(force_because))
    message = f"{model.run_id} is champion of {model.name} (version {model.version})"
    return Completed(name="Promoted", message=message, data=model)


def _approved(run: str, folder: Path) -> bool:
    """Suspend this flow run until somebody answers; it is started anew then, and finds the answer here."""
    if not (folder / "decision.json").is_file():
        return True  # the promotion itself says what is missing
    report = (folder / "report.html").absolute()
    shown = f"[Report of {inline(run)}]({report_link(run, report)})\n\n{verdict_markdown(run, report, read_decision(folder))}"
    form = Approval.with_initial_data(description=shown, approve=False)
    answer = suspend_flow_run(wait_for_input=form, timeout=int(PATIENCE.total_seconds()), key="approval")
    return bool(answer.approve)
