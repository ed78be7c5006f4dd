"""Trainings of a comparison as Prefect tasks, and its table on the page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import State, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.states import Cancelled, Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.utilities.annotations import opaque

from flows.comparing.cells import Job, RunJobs, Stopped, Trainings, run_cell
from schemas.errors import UserError
from schemas.results.comparison import Trained
from tasks.page import artifact_key, put
from tasks.release.pages.markdown import code
from tasks.stage import RETRIES, RETRY_DELAY_SECONDS, machine_failed, result_of


@task(
    name="train and score", task_run_name="{name}", cache_policy=NO_CACHE,
    retries=RETRIES, retry_delay_seconds=RETRY_DELAY_SECONDS, retry_condition_fn=machine_failed,
)  # fmt: skip
def train_and_score(
    name: str,  # noqa: ARG001
    job: Job,
    state: Path,
    folder: Path,
    trainings: Trainings,
) -> State[Trained]:
    """One training of the comparison, in a process of its own."""
    try:
        return Completed(data=run_cell(job, state, folder, get_run_logger().info, trainings))
    except UserError as error:
        return Failed(message=str(error), data=error)
    except Stopped:
        return Cancelled(message="another training failed or an end was asked for: this one was not begun")


def run_tasks(parallel: int) -> RunJobs:
    """Run jobs as tasks of the flow, at most `parallel` at a time; the next begins as soon as any of them is done."""

    def run(jobs: Sequence[Job], state: Path, folder: Path) -> list[Trained]:
        runner: ThreadPoolTaskRunner[Any] = ThreadPoolTaskRunner(max_workers=parallel)
        trainings = Trainings()
        given = {"state": state, "folder": folder, "trainings": opaque(trainings)}
        with runner:
            try:
                futures = [
                    # opaque: Prefect would look for futures in the whole specification
                    runner.submit(train_and_score, {"name": job[0], "job": opaque(job), **given})
                    for job in jobs
                ]
                for future in futures:
                    future.wait()
            except BaseException:  # the flow is cancelled
                trainings.stop()
                raise
        if trainings.failure is not None:
            raise trainings.failure
        return [result_of(future.state) for future in futures]

    return run


def show_comparison(name: str, folder: Path) -> State[str]:
    """Put the table on the page; the state that the flow ends in."""
    put(
        create_markdown_artifact,
        markdown=(folder / "table.md").read_text(encoding="utf-8"), key=artifact_key(name, "comparison"),
        description=f"Comparison {name}; with pictures in {code((folder / 'index.html').absolute())}",
    )  # fmt: skip
    return Completed(message=f"table and pictures in {folder}", data=str(folder))
