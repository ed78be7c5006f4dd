"""`rootstock compare-remedies`: what each remedy keeps of the general ability, and what it costs the domain."""

from collections.abc import Sequence
from pathlib import Path

from flows.comparing.cells import RunJobs
from schemas.results.remedy_comparison import RemedyCell, RemedyComparison
from schemas.spec.run import RunSpec
from tasks.evaluation.comparison.remedy_ranking import label_of, rank_remedies
from tasks.release.pages.remedy_page import write_remedies


def compare_remedies(
    comparison: RemedyComparison,
    jobs: Sequence[tuple[RemedyCell, RunSpec]],
    state: Path,
    run_jobs: RunJobs,
) -> Path:
    """Do what is missing of a comparison and write its table and page; return its folder.

    Raises:
        UserError: the specification, or a training that failed for another reason than its method or remedy.
    """
    folder = state / "remedies" / comparison.name
    named = [(f"{label_of(comparison, cell)}, seed {cell.seed}", spec) for cell, spec in jobs]
    trained = run_jobs(named, state, folder)
    cells = [cell for cell, _ in jobs]
    write_remedies(folder, comparison, rank_remedies(comparison, list(zip(cells, trained, strict=True))))
    return folder


def remedy_cells(comparison: RemedyComparison) -> list[RemedyCell]:
    """Every strength of every candidate with every seed."""
    return [
        RemedyCell(candidate=number, strength=strength, seed=seed)
        for number, candidate in enumerate(comparison.candidates)
        for strength in (candidate.vary.values if candidate.vary else (None,))
        for seed in comparison.seeds
    ]


def overrides_of(comparison: RemedyComparison, cell: RemedyCell) -> tuple[list[str], list[Sequence[str]]]:
    """What a cell changes in the shared specification, as `key.path=value`: the cell's own, and what those may replace."""
    candidate = comparison.candidates[cell.candidate]
    varied = [f"{candidate.vary.key}={cell.strength!r}"] if candidate.vary else []
    own = [*varied, f"name={comparison.name}", f"training.seed={cell.seed}"]
    return own, [comparison.overrides, candidate.set]
