"""`rootstock compare`: every method gets the same data, the same tokens and an equally long search for its learning rate.

First each method tries every learning rate with the search's seed; then it is trained at the best one with every reported
seed. Each training is a process of its own and leaves a file: a comparison that was stopped goes on where it was.
"""

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from schemas.comparison import Cell, CellResult, Comparison
from schemas.errors import MachineFailed, UserError
from schemas.run import RunSpec
from tasks.evaluation.ranking import best_rate, rank_methods
from tasks.release.comparison_page import write_comparison
from tasks.storage.atomic import write_atomic
from tasks.storage.children import die_with

Job = tuple[Cell, RunSpec]
RunJobs = Callable[[Sequence[Job], Path, Path], list[CellResult]]


def compare(comparison: Comparison, spec: RunSpec, state: Path, run_jobs: RunJobs) -> Path:
    """Do what is missing of a comparison and write its table and page; return its folder.

    Raises:
        UserError: the specification, or a training that failed for another reason than its method or rate.
    """
    folder = state / "compare" / comparison.name
    tried = run_jobs(jobs_of(comparison, spec, search_cells(comparison)), state, folder)
    rates = {
        group: best_rate([result for result in tried if group_of(result.cell) == group])
        for group in {group_of(result.cell): None for result in tried}
    }
    final = run_jobs(jobs_of(comparison, spec, final_cells(comparison, rates)), state, folder)
    rows = rank_methods(comparison, tried, final)
    write_comparison(folder, comparison, rows)
    return folder


Group = tuple[int, str, Any]


def group_of(cell: Cell) -> Group:
    """What one learning rate is chosen for."""
    return cell.method, cell.base, cell.documents


def search_cells(comparison: Comparison) -> list[Cell]:
    """Every rate of every group, with the search's seed."""
    return [
        Cell(method=method, base=base, documents=documents, learning_rate=rate, seed=comparison.search_seed)
        for base in comparison.bases or ("",)
        for documents in comparison.documents
        for method in range(len(comparison.methods))
        for rate in comparison.learning_rates
    ]


def final_cells(comparison: Comparison, rates: dict[Group, float | None]) -> list[Cell]:
    """Every reported seed of every group that has a rate."""
    return [
        Cell(method=method, base=base, documents=documents, learning_rate=rate, seed=seed)
        for (method, base, documents), rate in rates.items()
        if rate is not None
        for seed in comparison.seeds
    ]


def jobs_of(comparison: Comparison, spec: RunSpec, cells: Sequence[Cell]) -> list[Job]:
    """The specification of each cell, validated as if it had been written by hand."""
    return [(cell, spec_of(comparison, spec, cell)) for cell in cells]


def spec_of(comparison: Comparison, spec: RunSpec, cell: Cell) -> RunSpec:
    """The shared specification with this cell's base, method, documents, rate and seed."""
    values = spec.model_dump(mode="json")
    values["name"] = comparison.name
    values["method"] = comparison.methods[cell.method].model_dump(mode="json")
    if cell.base:
        values["base"] = cell.base
    values["training"] |= {
        "learning_rate": cell.learning_rate,
        "seed": cell.seed,
        "documents": None if cell.documents == "all" else cell.documents,
    }
    return RunSpec.model_validate(values)


def result_file(folder: Path, state: Path, job: Job) -> Path:
    """Where a cell's result lies; named by everything that decides it."""
    from tasks.release.run_folder import RunFolder

    return folder / "cells" / f"{RunFolder.open(state, job[1]).id}.json"


def run_processes(parallel: int, note: Callable[[str], None]) -> RunJobs:
    """Run cells as processes, at most `parallel` at a time; those whose result is there are read."""

    def run(jobs: Sequence[Job], state: Path, folder: Path) -> list[CellResult]:
        with ThreadPoolExecutor(parallel) as pool:
            futures = [pool.submit(run_cell, job, state, folder, note) for job in jobs]
            return [future.result() for future in futures]

    return run


def run_cell(job: Job, state: Path, folder: Path, note: Callable[[str], None]) -> CellResult:
    """Train one cell in a process of its own, unless it was trained before.

    Raises:
        UserError: it failed, and not because of its method.
    """
    cell, spec = job
    file = result_file(folder, state, job)
    if not file.is_file():
        job_file = file.with_suffix(".job")
        job_value = {"cell": cell.model_dump(), "spec": spec.model_dump(mode="json"), "state": str(state)}
        write_atomic(job_file, json.dumps(job_value))
        done = subprocess.run(
            [sys.executable, "-m", "flows.compare_cell", str(job_file), str(file)],
            capture_output=True, text=True, check=False, preexec_fn=functools.partial(die_with, os.getpid()),
        )  # fmt: skip
        job_file.unlink()
        if done.returncode:
            raise _failure(done.stderr, spec)
    result = CellResult.model_validate_json(file.read_bytes())
    note(told(result, spec))
    return result


def _failure(text: str, spec: RunSpec) -> UserError:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    if len(lines) >= 3 and lines[-2].startswith("  where: "):
        return UserError(lines[-3], lines[-2][9:], lines[-1][7:])
    return MachineFailed(
        f"a training of the comparison died: {lines[-1] if lines else 'it ended without a word'}",
        f"method {spec.method.kind}",
        "run the same command again: finished trainings are kept",
    )


def told(result: CellResult, spec: RunSpec) -> str:
    """One line of progress."""
    cell = result.cell
    where = f"{spec.method.kind}, rate {cell.learning_rate:g}, seed {cell.seed}, documents {cell.documents}"
    if result.scores is None:
        return f"{where}: refused: {result.refused}"
    suite, unit = result.scores.suites[0], result.scores.unit
    return f"{where}: {suite.name} {suite.value('base', unit):.3f} -> {suite.value('candidate', unit):.3f} {unit}"
