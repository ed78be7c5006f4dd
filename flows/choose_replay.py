"""The flow `choose-replay`: proxies as Prefect tasks, and the curve as a table on the page."""

from pathlib import Path
from typing import Annotated

from prefect import State, flow, runtime
from prefect.states import Completed

from data_contracts.contract import list_contracts
from flows.orchestration.as_tasks import call_as_task, label_run
from flows.orchestration.form import Overrides, SpecFile, StateFolder, field
from flows.orchestration.page_watch import PageWatch
from flows.orchestration.turns import turn_to_train
from flows.progress.watch import Console, Silent
from flows.replay.choose_replay import require_ratio, with_budget
from flows.replay.propose_replay import propose
from schemas.errors import UserError
from schemas.reading.load import load_spec
from tasks.page import artifact_key, show_table
from tasks.release.pages.markdown import code, inline
from tasks.stage import stopped


@flow(name="choose-replay", flow_run_name="choose replay {spec}")
def choose_replay_flow(
    spec: SpecFile = "runs/quickstart.yaml",
    budget: Annotated[
        float | None,
        field(
            "Forgetting budget",
            "Nats per token that may be forgotten. None: the specification's, or what its promotion allows.",
            gt=0,
        ),
    ] = None,
    overrides: Overrides = (),
    state: StateFolder = ".rootstock",
) -> State[float]:
    """Measure how forgetting falls with replay, and name the smallest ratio that keeps a budget; nothing is promoted."""
    try:
        loaded = with_budget(load_spec(Path(spec), overrides, list_contracts()), budget)
        label_run(f"choose replay {loaded.name}", [loaded.name])
        watch = PageWatch(loaded.name, Console() if runtime.deployment.id is None else Silent())
        with turn_to_train(Path(state)):
            choice, folder = propose(loaded, Path(state), watch, call=call_as_task)
        show_table(
            [
                {
                    "suite": curve.suite,
                    "replay": f"{point.replay_ratio:.2%}",
                    "domain tokens": point.domain_tokens,
                    "forgetting": f"{point.forgetting:.4f}",
                }
                for curve in choice.curves
                for point in curve.points
            ],
            key=artifact_key(loaded.name, "replay"),
            description=f"{inline(choice.sentence)}; with its curve in {code((folder / 'index.html').absolute())}",
        )
        ratio = require_ratio(choice)
    except UserError as error:
        return stopped(error)
    return Completed(message=choice.sentence, data=ratio)
