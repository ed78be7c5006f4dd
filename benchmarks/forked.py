"""Trainings of a comparison, forked from one process that has the libraries loaded: here one is shorter than loading them."""

import multiprocessing
from collections.abc import Sequence
from pathlib import Path

from flows.comparing.cell import train_cell
from flows.comparing.cells import Job, result_file, told
from schemas.results.comparison import Trained
from schemas.spec.run import RunSpec
from tasks.storage.atomic import write_atomic


def load_libraries() -> None:
    """Once, before the first fork."""
    import peft  # noqa: F401
    import torch  # noqa: F401
    import transformers  # noqa: F401


def fork_jobs(jobs: Sequence[Job], state: Path, folder: Path) -> list[Trained]:
    """Do what is missing, a forked process each.

    Raises:
        SystemExit: one died; its words are on the terminal.
    """
    found = []
    for name, spec in jobs:
        file = result_file(folder, state, spec)
        if not file.is_file():
            child = multiprocessing.get_context("fork").Process(target=_do, args=(spec, state, file))
            child.start()
            child.join()
            if child.exitcode:
                raise SystemExit(f"{name} failed")
        found.append(Trained.model_validate_json(file.read_bytes()))
        print(told(name, found[-1]), flush=True)
    return found


def _do(spec: RunSpec, state: Path, file: Path) -> None:
    write_atomic(file, train_cell(spec, state).model_dump_json())
