"""Scoring as a Prefect task."""

from collections.abc import Sequence
from pathlib import Path

from prefect import State, runtime, task
from prefect.cache_policies import NO_CACHE

from schemas.results.artifacts import Who
from schemas.spec.run import RunSpec
from tasks.evaluation.scoring import score_model as plain
from tasks.evaluation.suites.items import OnProgress, Suite
from tasks.stage import RETRIES, RETRY_DELAY_SECONDS, machine_failed, run_stage
from tasks.storage.steps import Step


def who_is(model_folder: Path) -> Who:
    """Part that a model plays in a run, told by where it lies: a finished training step, a run's folder, elsewhere."""
    if model_folder.name == "model" and model_folder.parent.name.startswith("train-"):
        return "candidate"
    return (
        "champion" if model_folder.name == "model" and model_folder.parent.parent.name == "runs" else "base"
    )


def _run_name() -> str:
    return f"score-{who_is(runtime.task_run.parameters['model_folder'])}"


@task(
    name="score", task_run_name=_run_name, cache_policy=NO_CACHE,
    retries=RETRIES, retry_delay_seconds=RETRY_DELAY_SECONDS, retry_condition_fn=machine_failed,
)  # fmt: skip
def score_model(
    root: Path,
    spec: RunSpec,
    suites: Sequence[Suite],
    model_folder: Path,
    on_progress: OnProgress | None,
) -> State[Step]:
    """Loss of every document of every suite under one model."""
    return run_stage(root, lambda: plain.score_model(root, spec, suites, model_folder, on_progress))
