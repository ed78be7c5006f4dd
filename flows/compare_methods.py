"""The flow `compare-methods`: a comparison with a Prefect task for every training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from prefect import State, flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, Failed
from prefect.utilities.annotations import opaque

from flows.as_tasks import label_run
from flows.cells import Job, run_cell
from flows.compare import compare
from flows.form import StateFolder, field
from flows.load_comparison import load_comparison
from schemas.comparison import Trained
from schemas.errors import UserError
from tasks.page import artifact_key
from tasks.stage import RETRIES, RETRY_DELAY_SECONDS, machine_failed, result_of, stopped


@task(
    name="train and score", task_run_name="{name}", cache_policy=NO_CACHE,
    retries=RETRIES, retry_delay_seconds=RETRY_DELAY_SECONDS, retry_condition_fn=machine_failed,
)  # fmt: skip
def train_and_score(name: str, job: Job, state: Path, folder: Path) -> State[Trained]:  # noqa: ARG001
    """One training of the comparison, in a process of its own."""
    try:
        return Completed(data=run_cell(job, state, folder, get_run_logger().info))
    except UserError as error:
        return Failed(message=str(error), data=error)


@flow(name="compare-methods", flow_run_name="compare {spec}")
def compare_methods(
    spec: Annotated[
        str, field("Comparison", "YAML file, relative to the folder where Rootstock is served.")
    ] = "runs/compare/quickstart.yaml",
    parallel: Annotated[int, field("At the same time", "Trainings that run side by side.", ge=1, le=64)] = 1,
    state: StateFolder = ".rootstock",
) -> State[str]:
    """Train every method on the same data with the same budget and the same search, and rank them."""

    def run(jobs: Sequence[Job], root: Path, folder: Path) -> list[Trained]:
        submit: Any = train_and_score.submit  # Prefect takes `opaque` for what it wraps
        results = []
        for start in range(0, len(jobs), parallel):
            batch = jobs[start : start + parallel]
            waiting = [submit(job[0], opaque(job), root, folder) for job in batch]
            for future in waiting:
                future.wait()
                results.append(result_of(future.state))
        return results

    try:
        comparison, shared = load_comparison(Path(spec))
        label_run(f"compare {comparison.name}", [comparison.name])
        folder = compare(comparison, shared, Path(state), run)
    except UserError as error:
        return stopped(error)
    create_markdown_artifact(
        (folder / "table.md").read_text(encoding="utf-8"), key=artifact_key(comparison.name, "comparison"),
        description=f"Comparison {comparison.name}; with pictures in `{(folder / 'index.html').absolute()}`",
    )  # fmt: skip
    return Completed(message=f"table and pictures in {folder}", data=str(folder))
