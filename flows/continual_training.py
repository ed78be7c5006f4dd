"""The flow `continual-training`: the journey of one specification, with Prefect's names, retries and page."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from prefect import flow, runtime
from prefect.client.orchestration import get_client
from prefect.states import Completed, State
from prefect.utilities.annotations import opaque
from pydantic import Field

from data_contracts.contract import list_contracts
from flows.form import AS_SPECIFIED, Overrides, SpecFile, StateFolder
from flows.journey import Outcome, conclude, follow
from flows.page_watch import PageWatch
from flows.watch import Console, Silent
from schemas.errors import UserError
from schemas.load import load_spec
from schemas.run import RunSpec
from tasks import evaluate, prepare, promote, train
from tasks.data.prepare import prepare as plain_prepare
from tasks.data.prepare import tokenize as plain_tokenize
from tasks.evaluation.suites import score_model as plain_score_model
from tasks.page import show_verdict
from tasks.release.run_folder import RunFolder
from tasks.stage import result_of, stopped
from tasks.storage.workers import map_in_processes
from tasks.training.base import provide_base as plain_provide_base
from tasks.training.methods.registry import METHODS
from tasks.training.train import train as plain_train

TASKS: dict[Callable[..., Any], Callable[..., State[Any]]] = {
    plain_prepare: prepare.prepare,
    plain_provide_base: prepare.provide_base,
    plain_tokenize: prepare.tokenize,
    plain_score_model: evaluate.score_model,
    plain_train: train.train,
    conclude: partial(promote.conclude, conclude),
}
MethodChoice = Literal[AS_SPECIFIED, *METHODS]  # type: ignore[valid-type]
ApprovalChoice = Literal["as in the specification", "automatic", "manual"]


def call_as_task(function: Callable[..., Any], *arguments: Any, **settings: Any) -> Any:
    """Run a stage as its Prefect task; a mistake is raised as it was.

    Arguments are opaque: Prefect would otherwise look for futures in every document of every suite.
    """
    task = TASKS[function]
    return result_of(task(*map(opaque, arguments), **{name: opaque(value) for name, value in settings.items()}))


@flow(name="continual-training", flow_run_name="{spec}")
def continual_training(
    spec: SpecFile = "runs/quickstart.yaml",
    replay_ratio: Annotated[
        float | None,
        Field(
            ge=0, lt=1, description="Share of training tokens drawn from general text, so that the model does not forget."
            " Empty: as in the specification.", json_schema_extra={"title": "Replay ratio"},
        ),
    ] = None,
    method: Annotated[
        MethodChoice,
        Field(description="How the model is tuned. Another method than the specification's starts with its default settings;"
              " change them below.", json_schema_extra={"title": "Tuning method"}),
    ] = AS_SPECIFIED,
    learning_rate: Annotated[
        float | None,
        Field(gt=0, le=1, description="Peak learning rate. Empty: as in the specification.",
              json_schema_extra={"title": "Learning rate"}),
    ] = None,
    approval: Annotated[
        ApprovalChoice,
        Field(description="automatic: a model that passes is put in use. manual: it waits for the deployment promote.",
              json_schema_extra={"title": "Approval"}),
    ] = "as in the specification",
    overrides: Overrides = (),
    state: StateFolder = ".rootstock",
    dask: Annotated[
        str,
        Field(description="Address of a running Dask scheduler that maps the data stages, such as tcp://10.0.0.5:8786."
              " Empty: worker processes of this machine.", json_schema_extra={"title": "Dask scheduler"}),
    ] = "",
) -> State[Outcome]:  # fmt: skip
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
        run = RunFolder.open(Path(state), loaded)
        label_run(run.id, [loaded.name, loaded.method.kind, f"replay {loaded.mixture.replay_ratio:g}"])
        outcome = _follow(loaded, Path(state), dask)
    except UserError as error:
        return stopped(error)
    if not outcome.fresh:
        show_verdict(loaded.name, outcome.run, outcome.folder, outcome.decision)
    return _final_state(loaded, outcome)


def _follow(spec: RunSpec, state: Path, dask: str) -> Outcome:
    """The log lines of a deployment's run are on its worker's terminal already; a direct call has the console."""
    watch = PageWatch(spec.name, Console() if runtime.deployment.id is None else Silent())
    shards: Any = nullcontext(map_in_processes)
    if dask:
        from flows.dask_shards import map_on_dask

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


def label_run(name: str, tags: list[str]) -> None:
    """Give the flow run its name and add tags; known only once its specification has been read."""
    with get_client(sync_client=True) as client:
        client.update_flow_run(runtime.flow_run.id, name=name, tags=sorted({*runtime.flow_run.tags, *tags}))
