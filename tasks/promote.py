"""The last stages as Prefect tasks: decide and report, and promote by hand."""

from collections.abc import Callable
from pathlib import Path

from prefect import State, task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed

from schemas.errors import UserError
from schemas.results.artifacts import Decision
from tasks.page import show_scores, show_verdict
from tasks.release.promotion import promotion
from tasks.release.registry.versions import Registered
from tasks.release.run.run_folder import RunFolder, RunResult
from tasks.stage import stopped
from tasks.still_wanted import require_wanted


@task(name="decide-and-report", task_run_name="decide-and-report", cache_policy=NO_CACHE)
def conclude(
    work: Callable[[RunFolder, RunResult, Callable[[], None]], Decision], run: RunFolder, result: RunResult
) -> State[Decision]:
    """Decide, write the report, and put a passing model in use; `work` is the journey's own last stage."""
    try:
        decision = work(run, result, require_wanted)
    except UserError as error:
        return stopped(error)
    show_scores(run.spec.name, result.scores)
    show_verdict(run.spec.name, run.id, run.folder, decision)
    return Completed(data=decision)


@task(name="promote", task_run_name="promote-{run_id}", cache_policy=NO_CACHE)
def promote(state: Path, run_id: str, forced_because: str | None = None) -> State[Registered]:
    """Make a run's model champion, if its decision passes (or with a reason) and is bound to its very files."""
    try:
        folder = state / "runs" / run_id
        return Completed(data=promotion.promote_by_hand(state, folder, forced_because, require_wanted))
    except UserError as error:
        return stopped(error)
