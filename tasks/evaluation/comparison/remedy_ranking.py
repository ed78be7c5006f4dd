"""What remedies keep and what they cost: means over seeds, each candidate paired with what it is held against."""

import statistics
from collections.abc import Sequence

from schemas.results.comparison import Estimate, Trained
from schemas.results.remedy_comparison import RemedyCell, RemedyComparison, RemedyRow
from schemas.results.scores import Scores
from tasks.evaluation.comparison.ranking import over_seeds, side_by_side
from tasks.evaluation.comparison.same_gain import at_the_same_gain
from tasks.evaluation.verdict.improvement import improvement, negate
from tasks.evaluation.verdict.statistics import Interval

Result = tuple[RemedyCell, Trained]
Groups = dict[tuple[int, float | None], list[Result]]


def rank_remedies(comparison: RemedyComparison, results: Sequence[Result]) -> list[RemedyRow]:
    """One row per candidate and strength, in the comparison's order."""
    groups: Groups = {}
    for cell, trained in results:
        groups.setdefault((cell.candidate, cell.strength), []).append((cell, trained))
    return [_row(comparison, group, groups) for group in groups.values()]


def label_of(comparison: RemedyComparison, cell: RemedyCell) -> str:
    """The candidate's name, and its strength where it has several."""
    candidate = comparison.candidates[cell.candidate]
    if candidate.vary is None:
        return candidate.name
    return f"{candidate.name} ({candidate.vary.key.rsplit('.', 1)[-1]} {cell.strength:g})"


def _row(
    comparison: RemedyComparison,
    group: Sequence[Result],
    groups: Groups,
) -> RemedyRow:
    cell, confidence = group[0][0], comparison.confidence
    candidate = comparison.candidates[cell.candidate]
    label = label_of(comparison, cell)
    row = RemedyRow(
        candidate=cell.candidate, strength=cell.strength, label=label, control=candidate.control, unit=""
    )
    refused = next((t.refused for _, t in group if t.refused is not None), None)
    if refused is not None:
        return row.model_copy(update={"refused": refused})
    scores = [t.scores for _, t in group if t.scores is not None]
    unit = scores[0].unit

    def estimate(intervals: Sequence[Interval]) -> Estimate:
        mean = over_seeds(intervals, confidence)
        return Estimate(estimate=mean.estimate, low=mean.low, high=mean.high)

    def better(number: int, pairs: Sequence[tuple[Scores, Scores]]) -> list[Interval]:
        """By how much the second's candidate is better than the first's, a seed each."""
        return [
            improvement(
                side_by_side(old.suites[number], new.suites[number]), unit, "base", "candidate", confidence
            )
            for old, new in pairs
        ]

    general = {suite.name: n for n, suite in enumerate(scores[0].suites) if suite.kind == "general"}
    found: dict[str, object] = {
        "unit": unit,
        "gain": estimate([improvement(s.suites[0], unit, "base", "candidate", confidence) for s in scores]),
        "forgetting": {
            name: estimate(
                [negate(improvement(s.suites[n], unit, "base", "candidate", confidence)) for s in scores]
            )
            for name, n in general.items()
        },
        "domain_tokens": statistics.mean(t.domain_tokens for _, t in group),
        "replay_tokens": statistics.mean(t.replay_tokens for _, t in group),
        "seconds": statistics.mean(t.seconds for _, t in group),
    }
    names = [c.name for c in comparison.candidates]
    other = 0 if candidate.against is None else names.index(candidate.against)
    opposite = [t.scores for _, t in groups.get((other, None), []) if t.scores is not None]
    if other != cell.candidate and len(opposite) == len(scores):
        pairs = list(zip(opposite, scores, strict=True))
        found |= {
            "against": names[other],
            "kept": {name: estimate(better(n, pairs)) for name, n in general.items()},
            "domain_cost": estimate([negate(interval) for interval in better(0, pairs)]),
        }
    line = _line_of(comparison, groups) if unit == "nats per token" else []
    on_line = {0, *(names.index(name) for name in (comparison.line,) if name)}
    if len(line) == len(scores) and cell.candidate not in on_line and other == 0:
        pairs = [(at_the_same_gain(points, own), own) for points, own in zip(line, scores, strict=True)]
        found["kept_at_gain"] = {name: estimate(better(n, pairs)) for name, n in general.items()}
    return row.model_copy(update=found)


def _line_of(comparison: RemedyComparison, groups: Groups) -> list[list[Scores]]:
    """For each seed the models on the comparison's line: the first candidate's, and those that train less."""
    if comparison.line is None:
        return []
    names = [candidate.name for candidate in comparison.candidates]
    by_seed: dict[int, list[Scores]] = {seed: [] for seed in comparison.seeds}
    for (candidate, _), group in groups.items():
        if candidate in (0, names.index(comparison.line)):
            for cell, trained in group:
                if trained.scores is not None:
                    by_seed[cell.seed].append(trained.scores)
    return [models for models in by_seed.values() if models]
