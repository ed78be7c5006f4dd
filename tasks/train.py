"""Training as a Prefect task: inline in the flow's process, so that a cancelled run stops at a checkpoint."""

from pathlib import Path

from prefect import State, task
from prefect.cache_policies import NO_CACHE

from schemas.spec.run import RunSpec
from tasks.stage import run_stage
from tasks.storage.steps import Step
from tasks.training import train as plain
from tasks.training.inputs import TrainingInputs
from tasks.training.loop.progress_file import OnMetrics


# No retries: what stops a training (NaN, memory, a signal) would stop the next attempt too, and a rerun goes on from
# the last checkpoint anyway. No timeout: no one knows a training's length better than its progress does.
@task(name="train", task_run_name="train", cache_policy=NO_CACHE)
def train(root: Path, spec: RunSpec, inputs: TrainingInputs, on_metrics: OnMetrics | None) -> State[Step]:
    """Train, or go on from the last complete checkpoint."""
    return run_stage(root, lambda: plain.train(root, spec, inputs, on_metrics=on_metrics))
