"""The flow `continual-training`: the journey of one specification, with Prefect's names, retries and page."""

from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Annotated, Any, Literal

from prefect import State, flow, get_run_logger, runtime
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.states import Completed

from data_contracts.contract import list_contracts
from flows.growing.due import due
from flows.orchestration.as_tasks import call_as_task, label_run
from flows.orchestration.events import announce_verdict
from flows.orchestration.form import AS_SPECIFIED, Overrides, SpecFile, StateFolder, field
from flows.orchestration.page_watch import PageWatch
from flows.orchestration.turns import turn_to_train
from flows.progress.watch import Console, Silent
from flows.run.journey import Outcome, follow
from schemas.errors import NoNewData, UserError
from schemas.reading.load import load_spec
from schemas.spec.run import RunSpec
from tasks.page import show_verdict
from tasks.release.run.run_folder import RunFolder
from tasks.stage import stopped
from tasks.storage.workers import map_in_processes
from tasks.training.methods.registry import METHODS

MethodChoice = Literal[AS_SPECIFIED, *METHODS]  # type: ignore[valid-type]
NONE = "None: as in the specification."
METHOD_HINT = "Another method than the specification's starts from its default settings; change them under Other settings."
APPROVAL_HINT = "automatic: a model that passes is put in use. manual: it waits for the deployment promote."
DASK_HINT = (
    "Maps the data stages over its workers, such as tcp://10.0.0.5:8786. Empty: processes of this machine."
)
ApprovalChoice = Literal["as in the specification", "automatic", "manual"]


@flow(name="continual-training", flow_run_name="{spec}")
def continual_training(
    spec: SpecFile = "runs/quickstart.yaml",
    replay_ratio: Annotated[
        float | None,
        field("Replay ratio", f"Share of training tokens drawn from general text. {NONE}", ge=0, lt=1),
    ] = None,
    method: Annotated[MethodChoice, field("Tuning method", METHOD_HINT)] = AS_SPECIFIED,
    learning_rate: Annotated[float | None, field("Learning rate", f"At its peak. {NONE}", gt=0, le=1)] = None,
    approval: Annotated[ApprovalChoice, field("Approval", APPROVAL_HINT)] = "as in the specification",
    overrides: Overrides = (),
    state: StateFolder = ".rootstock",
    dask: Annotated[str, field("Dask scheduler", DASK_HINT)] = "",
) -> State[Outcome]:
    """Teach a model your domain without it forgetting what it knew.

    Follows one specification from its files to its verdict: read and check the data, mix, train, score before and
    after, decide, and put the model in use if it passed. A run that was stopped goes on where it was; what is on disk
    already is not done again.
    """
    fields = {
        "mixture.replay_ratio": replay_ratio, "method.kind": method, "training.learning_rate": learning_rate,
        "promotion.approval": approval,
    }  # fmt: skip
    chosen = [f"{key}={value}" for key, value in fields.items() if value not in (None, AS_SPECIFIED)]
    try:
        loaded = load_spec(Path(spec), [*chosen, *overrides], list_contracts())
        with turn_to_train(Path(state)), due(loaded, Path(state), note=get_run_logger().info) as now:
            run = RunFolder.open(Path(state), now)
            label_run(run.id, [now.name, now.method.kind, _mixture_tag(now)])
            outcome = _follow(now, Path(state), dask)
    except NoNewData as nothing:
        return Completed(name="NoNewData", message=nothing.what)
    except UserError as error:
        return stopped(error)
    if not outcome.fresh:
        show_verdict(loaded.name, outcome.run, outcome.folder, outcome.decision)
    announce_verdict(now, outcome)
    final = _final_state(loaded, outcome)
    if final.name == "AwaitingApproval" and outcome.fresh and runtime.deployment.id is not None:
        _ask_for_approval(outcome.run, state)
    return final


def _ask_for_approval(run: str, state: str) -> None:
    """Start the deployment that shows the report and waits for an answer; without it, the model waits as well."""
    with suppress(ObjectNotFound):
        asked = {"run": run, "ask": True, "state": state}
        run_deployment("promote/promote", parameters=asked, timeout=0, as_subflow=False)


def _mixture_tag(spec: RunSpec) -> str:
    ratio, budget = spec.mixture.replay_ratio, spec.mixture.forgetting_budget
    return f"replay {ratio:g}" if ratio is not None else f"budget {budget:g}"


def _follow(spec: RunSpec, state: Path, dask: str) -> Outcome:
    """The log lines of a deployment's run are on its worker's terminal already; a direct call has the console."""
    watch = PageWatch(spec.name, Console() if runtime.deployment.id is None else Silent())
    shards: Any = nullcontext(map_in_processes)
    if dask:
        from flows.orchestration.dask_shards import map_on_dask

        shards = map_on_dask(dask, state)
    with shards as map_shards:
        return follow(spec, state, watch, call=call_as_task, map_shards=map_shards)


def _final_state(spec: RunSpec, outcome: Outcome) -> State[Outcome]:
    """A rejected model is a completed run with a name, not a failure."""
    names = {"promote": "Promoted", "reject": "Rejected", "inconclusive": "Inconclusive"}
    name = names[outcome.decision.verdict]
    if name == "Promoted" and spec.promotion.approval == "manual":
        name = "AwaitingApproval"
    message = f"{outcome.decision.sentence} Next: {outcome.decision.next_action}"
    return Completed(name=name, message=message, data=outcome)
