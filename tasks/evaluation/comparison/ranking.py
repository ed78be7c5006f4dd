"""Means over seeds with intervals, and which of several methods cannot be told from the best.

Seeds and items both vary: the variance of a mean over S seeds is taken as var(estimates) / S + the mean variance that the
items give each estimate. With held-out items that change from seed to seed the first term has some of the second in it, so
intervals are rather too wide than too narrow. Degrees of freedom are Satterthwaite's (1946). With one seed only the items
are left, and the interval says nothing about another seed.
"""

import math
import statistics
from collections.abc import Sequence
from typing import Literal

import numpy as np

from schemas.results.comparison import CellResult, Comparison, Estimate, Row
from schemas.results.scores import AnswerSuite, AnySuite, LabelSuite, SuiteScores, TagSuite
from tasks.evaluation.verdict.improvement import improvement, negate
from tasks.evaluation.verdict.statistics import Interval


def over_seeds(intervals: Sequence[Interval], confidence: float) -> Interval:
    """Mean of estimates of several seeds, each with the interval that its items give."""
    from scipy.special import stdtrit

    estimates = np.array([interval.estimate for interval in intervals])
    items = float(np.mean([interval.standard_error**2 for interval in intervals]))
    freedom_of_items = min(interval.degrees_of_freedom for interval in intervals)
    seeds = float(estimates.var(ddof=1)) / len(estimates) if len(estimates) > 1 else 0.0
    variance, mean = seeds + items, float(estimates.mean())
    clusters = min(interval.clusters for interval in intervals)
    if not math.isfinite(variance) or freedom_of_items <= 0:
        return Interval(mean, math.inf, -math.inf, math.inf, clusters, confidence, 0.0)
    parts = items**2 / freedom_of_items + (seeds**2 / (len(estimates) - 1) if len(estimates) > 1 else 0.0)
    freedom = variance**2 / parts if parts > 0 else freedom_of_items
    margin = float(stdtrit(freedom, confidence)) * math.sqrt(variance)
    return Interval(mean, math.sqrt(variance), mean - margin, mean + margin, clusters, confidence, freedom)


def best_rates(tried: Sequence[CellResult]) -> list[float]:
    """The learning rates whose candidates scored best on the domain, ascending: more than one where they are level."""
    scored = [(_value(result), result.cell.learning_rate) for result in tried if result.scores is not None]
    return sorted(rate for value, rate in scored if value == max(scored)[0])


def best_rate(tried: Sequence[CellResult]) -> float | None:
    """The lowest of `best_rates`; None where all were refused."""
    return next(iter(best_rates(tried)), None)


def _value(result: CellResult) -> float:
    """Score of the domain suite, higher is better."""
    assert result.scores is not None
    value = result.scores.suites[0].value("candidate", result.scores.unit)
    return value if result.scores.measure.higher_is_better else -value


def rank_methods(
    comparison: Comparison, tried: Sequence[CellResult], final: Sequence[CellResult]
) -> list[Row]:
    """One row per method, base and number of documents, the best first within base and documents."""
    rows: list[Row] = []
    for base in comparison.bases or ("",):
        for documents in comparison.documents:
            chosen = [r for r in final if r.cell.base == base and r.cell.documents == documents]
            searched = [r for r in tried if r.cell.base == base and r.cell.documents == documents]
            rows += _rank(comparison, searched, chosen, base, documents)
    return rows


def _rank(
    comparison: Comparison,
    tried: Sequence[CellResult],
    final: Sequence[CellResult],
    base: str,
    documents: int | Literal["all"],
) -> list[Row]:
    by_method: dict[int, list[CellResult]] = {}
    for result in final:
        by_method.setdefault(result.cell.method, []).append(result)
    whole = {m: rs for m, rs in by_method.items() if all(r.scores is not None for r in rs)}
    ordered = sorted(whole, key=lambda m: (-statistics.mean(map(_value, whole[m])), m))
    reference = next((whole[m] for m in ordered if comparison.methods[m].kind == comparison.reference), None)
    rates = {m: [r.cell.learning_rate for r in tried if r.cell.method == m] for m in ordered}
    rows = [
        _row(comparison, whole[m], whole[ordered[0]], reference, rates[m], base, documents) for m in ordered
    ]
    for method in range(len(comparison.methods)):
        if method not in whole:
            results = by_method.get(method) or [r for r in tried if r.cell.method == method]
            reason = next(r.refused for r in results if r.refused is not None)
            rows.append(
                Row(
                    method=method, label=label_of(comparison, method), base=base, documents=documents, unit="",
                    refused=reason,
                )
            )  # fmt: skip
    return rows


def _row(
    comparison: Comparison,
    results: Sequence[CellResult],
    best: Sequence[CellResult],
    reference: Sequence[CellResult] | None,
    rates: Sequence[float],
    base: str,
    documents: int | Literal["all"],
) -> Row:
    confidence, first = comparison.confidence, results[0]
    scores = [result.scores for result in results if result.scores is not None]
    unit = scores[0].unit
    gains = [improvement(s.suites[0], unit, "base", "candidate", confidence) for s in scores]
    forgetting = {
        suite.name: _estimate(
            [negate(improvement(s.suites[n], unit, "base", "candidate", confidence)) for s in scores],
            confidence,
        )
        for n, suite in enumerate(scores[0].suites)
        if suite.kind == "general"
    }
    behind = None if results is best else _difference(results, best, confidence)
    ahead = None if reference is None or results is reference else _difference(reference, results, confidence)
    times = [result.latency for result in results if result.latency is not None]
    merged = [t.merged / t.base for t in times if t.merged is not None]
    return Row(
        method=first.cell.method,
        label=label_of(comparison, first.cell.method),
        base=base,
        documents=documents,
        unit=unit,
        learning_rate=first.cell.learning_rate,
        rate_at_edge=len(rates) > 1 and first.cell.learning_rate in (min(rates), max(rates)),
        seeds=len(results),
        value=statistics.mean(s.suites[0].value("candidate", unit) for s in scores),
        gain=_estimate(gains, confidence),
        forgetting=forgetting,
        behind_best=behind,
        ahead_of_reference=ahead,
        level_with_best=behind is None or behind.low <= 0,
        parameters=first.parameters,
        label_tokens=statistics.mean(result.label_tokens for result in results),
        seconds=statistics.mean(result.seconds for result in results),
        peak_memory_bytes=statistics.mean(result.peak_memory_bytes for result in results),
        latency_tuned=statistics.median(t.tuned / t.base for t in times),
        latency_merged=statistics.median(merged) if merged else None,
    )  # fmt: skip


def _difference(worse: Sequence[CellResult], better: Sequence[CellResult], confidence: float) -> Estimate:
    """How much better the candidates of `better` are on the domain, seed by seed and item by item."""
    pairs = [(w.scores, b.scores) for w, b in zip(worse, better, strict=True) if w.scores and b.scores]
    return _estimate(
        [
            improvement(side_by_side(w.suites[0], b.suites[0]), w.unit, "base", "candidate", confidence)
            for w, b in pairs
        ],
        confidence,
    )


def _estimate(intervals: Sequence[Interval], confidence: float) -> Estimate:
    mean = over_seeds(intervals, confidence)
    return Estimate(estimate=mean.estimate, low=mean.low, high=mean.high)


def side_by_side(before: AnySuite, after: AnySuite) -> AnySuite:
    """One suite in which `base` is the candidate of `before` and `candidate` that of `after`.

    Raises:
        ValueError: they are not the same items in the same order.
    """
    if [item.id for item in before.items] != [item.id for item in after.items]:
        raise ValueError(f"suite '{before.name}': the two models were scored on different items")
    fields = {SuiteScores: "nats", LabelSuite: "predicted", TagSuite: "spans", AnswerSuite: "answered"}
    field = fields[type(before)]
    items = tuple(
        new.model_copy(update={field: {"base": getattr(old, field)["candidate"], "candidate": getattr(new, field)["candidate"]}})
        for old, new in zip(before.items, after.items, strict=True)
    )  # fmt: skip
    return after.model_copy(update={"items": items})


def label_of(comparison: Comparison, method: int) -> str:
    """The kind, and the settings that differ from their defaults where a kind occurs more than once."""
    settings = comparison.methods[method]
    if sum(other.kind == settings.kind for other in comparison.methods) == 1:
        return settings.kind
    changed = settings.model_dump(exclude_defaults=True, exclude={"kind"})
    return f"{settings.kind} ({', '.join(f'{k} {v}' for k, v in changed.items()) or 'defaults'})"
