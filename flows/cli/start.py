"""Start a run: through Prefect where it can be had, as plain functions where it is not wanted."""

from pathlib import Path
from typing import Any

from flows.growing.due import due, find_due
from flows.progress.watch import Console
from schemas.spec.run import RunSpec
from tasks.release.run.run_folder import RunFolder


def start(
    file: Path, sets: list[str], spec: RunSpec, state: Path, use_prefect: bool, dask: str | None = None
) -> Any:
    """Return the outcome of a specification; one that is finished already needs neither Prefect nor torch.

    Raises:
        NoNewData: it grows by increments, and there is nothing new; needs neither of them either.
    """
    from flows.run.journey import Outcome, follow

    now = find_due(spec, state) if spec.increments and not spec.increment else spec
    run = RunFolder.open(state, now)
    if (decision := run.finished()) is not None:
        return Outcome(run.id, run.folder, decision, fresh=False)
    if not use_prefect:
        watch = Console()
        with due(spec, state, note=watch.note) as now:
            return follow(now, state, watch)
    from flows.serving.embedded import run_here

    return run_here(file, sets, state, dask)
