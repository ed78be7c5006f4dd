"""The flow `evaluate-model`: score any model on a specification's suites."""

from pathlib import Path
from typing import Annotated, Any

from prefect import State, flow, runtime
from prefect.states import Completed

from data_contracts.contract import list_contracts
from flows.models.evaluate import evaluate_model
from flows.orchestration.as_tasks import call_as_task, label_run
from flows.orchestration.form import Overrides, SpecFile, StateFolder, field
from flows.orchestration.page_watch import PageWatch
from flows.progress.watch import Console, Silent
from schemas.errors import UserError
from schemas.reading.load import load_spec
from tasks.page import artifact_key, show_table
from tasks.release.pages.markdown import code
from tasks.stage import stopped

LOSS = "nats per token"


@flow(name="evaluate-model", flow_run_name="evaluate {model}")
def evaluate_model_flow(
    model: Annotated[str, field("Model", "Folder of a model, or its id on the Hub.")],
    spec: SpecFile = "runs/quickstart.yaml",
    overrides: Overrides = (),
    state: StateFolder = ".rootstock",
) -> State[list[dict[str, Any]]]:
    """Score a model on the domain and general suites of a specification; nothing is trained or promoted."""
    try:
        loaded = load_spec(Path(spec), overrides, list_contracts())
        label_run(f"evaluate {model}", [loaded.name])
        watch = PageWatch(loaded.name, Console() if runtime.deployment.id is None else Silent())
        rows = evaluate_model(loaded, Path(state), model, watch, call=call_as_task)
    except UserError as error:
        return stopped(error)
    main = list(rows[0])[3]  # the score that rules are about
    show_table(
        [{name: f"{v:.4f}" if isinstance(v, float) else v for name, v in row.items()} for row in rows],
        key=artifact_key(loaded.name, "evaluation"),
        description=f"{code(model)} on the suites of {loaded.name}; {'lower' if main == LOSS else 'higher'} is better.",
    )
    values = ", ".join(f"{row['suite']} {row[main]:.4f}" for row in rows)
    return Completed(message=f"{'loss in ' if main == LOSS else ''}{main}: {values}", data=rows)
