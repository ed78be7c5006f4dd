"""`rootstock compare`: every method gets the same data, the same tokens and an equally long search for its learning rate.

First each method tries every learning rate with the search's seed; then it is trained at the best one with every reported
seed. A method whose best rate lies at the edge goes on beyond it (where all are as good, at both), by one rule for all.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows.comparing.cells import RunJobs
from schemas.results.comparison import Cell, CellResult, Comparison
from schemas.spec.run import RunSpec
from tasks.evaluation.comparison.ranking import best_rate, best_rates, rank_methods
from tasks.release.pages.comparison_page import write_comparison


def compare(comparison: Comparison, spec: RunSpec, state: Path, run_jobs: RunJobs) -> Path:
    """Do what is missing of a comparison and write its table and page; return its folder.

    Raises:
        UserError: the specification, or a training that failed for another reason than its method or rate.
    """
    folder = state / "compare" / comparison.name

    def train(cells: Sequence[Cell]) -> list[CellResult]:
        specs = [spec_of(comparison, spec, cell) for cell in cells]
        jobs = [(label_of(cell, spec), spec) for cell, spec in zip(cells, specs, strict=True)]
        trained = run_jobs(jobs, state, folder)
        return [CellResult(cell=c, **dict(result)) for c, result in zip(cells, trained, strict=True)]

    tried = train(search_cells(comparison))
    for _ in range(comparison.further_rates):
        beyond = further_cells(comparison, tried)
        if not beyond:
            break
        tried += train(beyond)
    rates = {
        group: best_rate([result for result in tried if group_of(result.cell) == group])
        for group in {group_of(result.cell): None for result in tried}
    }
    final = train(final_cells(comparison, rates))
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


def further_cells(comparison: Comparison, tried: Sequence[CellResult]) -> list[Cell]:
    """The next rate of every group whose best one is an edge of those it tried; it begins with two or more.

    Where both edges are as good (a search in which every rate gave the most frequent label), the next on both sides.
    """
    cells = []
    for group in {group_of(result.cell): None for result in tried}:
        results = [result for result in tried if group_of(result.cell) == group]
        rates, best = sorted(result.cell.learning_rate for result in results), best_rates(results)
        if len(comparison.learning_rates) < 2:
            continue
        for edge, beside in ((rates[0], rates[1]), (rates[-1], rates[-2])):
            if edge in best:
                further = {"learning_rate": _rounded(edge * edge / beside)}
                cells.append(results[0].cell.model_copy(update=further))
    return cells


def _rounded(rate: float) -> float:
    """Three digits, as people write rates."""
    return float(f"{rate:.3g}")


def final_cells(comparison: Comparison, rates: dict[Group, float | None]) -> list[Cell]:
    """Every reported seed of every group that has a rate."""
    return [
        Cell(method=method, base=base, documents=documents, learning_rate=rate, seed=seed)
        for (method, base, documents), rate in rates.items()
        if rate is not None
        for seed in comparison.seeds
    ]


def label_of(cell: Cell, spec: RunSpec) -> str:
    """What people know a training by."""
    return f"{spec.method.kind}, rate {cell.learning_rate:g}, seed {cell.seed}, documents {cell.documents}"


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
