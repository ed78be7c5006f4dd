"""The flow `compare-methods`: a comparison with a Prefect task for every training."""

from pathlib import Path

from prefect import State, flow

from flows.comparing.load import load_comparison
from flows.comparing.methods import compare
from flows.orchestration.as_tasks import label_run
from flows.orchestration.cells_as_tasks import run_tasks, show_comparison
from flows.orchestration.form import ComparisonFile, Parallel, StateFolder
from flows.orchestration.turns import turn_to_train
from schemas.errors import UserError
from tasks.stage import stopped


@flow(name="compare-methods", flow_run_name="compare {spec}")
def compare_methods(
    spec: ComparisonFile = "runs/compare/quickstart.yaml",
    parallel: Parallel = 1,
    state: StateFolder = ".rootstock",
) -> State[str]:
    """Train every method on the same data with the same budget and the same search, and rank them."""
    try:
        comparison, shared = load_comparison(Path(spec))
        label_run(f"compare {comparison.name}", [comparison.name])
        with turn_to_train(Path(state)):
            folder = compare(comparison, shared, Path(state), run_tasks(parallel))
    except UserError as error:
        return stopped(error)
    return show_comparison(comparison.name, folder)
