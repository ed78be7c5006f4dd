"""The flow `compare-remedies`: a comparison with a Prefect task for every training."""

from pathlib import Path

from prefect import State, flow

from flows.comparing.load import load_remedy_comparison
from flows.comparing.remedies import compare_remedies
from flows.orchestration.as_tasks import label_run
from flows.orchestration.cells_as_tasks import run_tasks, show_comparison
from flows.orchestration.form import ComparisonFile, Parallel, StateFolder
from flows.orchestration.turns import turn_to_train
from schemas.errors import UserError
from tasks.stage import stopped


@flow(name="compare-remedies", flow_run_name="compare {spec}")
def compare_remedies_flow(
    spec: ComparisonFile = "runs/remedies/stories.yaml",
    parallel: Parallel = 1,
    state: StateFolder = ".rootstock",
) -> State[str]:
    """Train with every remedy against forgetting and without: what each keeps, and what it costs the domain."""
    try:
        comparison, jobs = load_remedy_comparison(Path(spec))
        label_run(f"compare {comparison.name}", [comparison.name])
        with turn_to_train(Path(state)):
            folder = compare_remedies(comparison, jobs, Path(state), run_tasks(parallel))
    except UserError as error:
        return stopped(error)
    return show_comparison(comparison.name, folder)
