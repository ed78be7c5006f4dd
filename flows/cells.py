"""Trainings of a comparison: each in a process of its own that leaves a file, so a stopped comparison goes on where it was."""

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from schemas.comparison import Trained
from schemas.errors import MachineFailed, UserError
from schemas.run import RunSpec
from tasks.storage.atomic import write_atomic
from tasks.storage.children import die_with

Job = tuple[str, RunSpec]
"""What people know a training by, and all that it is."""
RunJobs = Callable[[Sequence[Job], Path, Path], list[Trained]]
"""(jobs, state folder, folder of the results) -> a result each, in their order."""


def result_file(folder: Path, state: Path, spec: RunSpec) -> Path:
    """Where a training's result lies; named by everything that decides it."""
    from tasks.release.run_folder import RunFolder

    return folder / "cells" / f"{RunFolder.open(state, spec).id}.json"


def run_processes(parallel: int, note: Callable[[str], None]) -> RunJobs:
    """Run jobs as processes, at most `parallel` at a time; those whose result is there are read."""

    def run(jobs: Sequence[Job], state: Path, folder: Path) -> list[Trained]:
        with ThreadPoolExecutor(parallel) as pool:
            futures = [pool.submit(run_cell, job, state, folder, note) for job in jobs]
            return [future.result() for future in futures]

    return run


def run_cell(job: Job, state: Path, folder: Path, note: Callable[[str], None]) -> Trained:
    """Do one job in a process of its own, unless it was done before.

    Raises:
        UserError: it failed, and not because of what is compared.
    """
    name, spec = job
    file = result_file(folder, state, spec)
    if not file.is_file():
        job_file = file.with_suffix(".job")
        write_atomic(job_file, json.dumps({"spec": spec.model_dump(mode="json"), "state": str(state)}))
        done = subprocess.run(
            [sys.executable, "-P", "-m", "flows.cell", str(job_file), str(file)],
            capture_output=True, text=True, check=False, preexec_fn=functools.partial(die_with, os.getpid()),
        )  # fmt: skip
        job_file.unlink()
        if done.returncode:
            raise _failure(done.stderr, name)
    result = Trained.model_validate_json(file.read_bytes())
    note(told(name, result))
    return result


def _failure(text: str, name: str) -> UserError:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    if len(lines) >= 3 and lines[-2].startswith("  where: "):
        return UserError(lines[-3], lines[-2][9:], lines[-1][7:])
    return MachineFailed(
        f"a training of the comparison died: {lines[-1] if lines else 'it ended without a word'}",
        name,
        "run the same command again: finished trainings are kept",
    )


def told(name: str, result: Trained) -> str:
    """One line of progress."""
    if result.scores is None:
        return f"{name}: refused: {result.refused}"
    scores = result.scores
    changes = (
        f"{suite.name} {scores.value(suite, 'base'):.3f} -> {scores.value(suite, 'candidate'):.3f} {scores.unit_of(suite)}"
        for suite in scores.suites
    )
    return f"{name}: {', '.join(changes)}"
