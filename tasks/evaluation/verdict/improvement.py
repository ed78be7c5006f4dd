"""How much better one model is than another on a suite, in the suite's own unit, with its uncertainty.

What a unit is reckoned with stands in `PAIRED`: accuracies by paired proportions, F1 by a paired bootstrap, losses by the
difference of sums.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.results.scores import AnySuite, Unit, Who
from tasks.evaluation.verdict.proportions import (
    label_counts,
    macro_f1,
    micro_f1,
    paired_accuracy,
    paired_statistic,
)
from tasks.evaluation.verdict.statistics import Interval, paired_difference


def improvement(suite: AnySuite, unit: Unit, before: Who, after: Who, confidence: float) -> Interval:
    """Estimate by how much `after` is better than `before`: the fall of a loss, the rise of an accuracy or F1.

    Raises:
        ValueError: an item lacks the score of one of the two.
    """
    for who in (before, after):
        missing = sum(who not in item.models for item in suite.items)
        if missing:
            raise ValueError(f"suite '{suite.name}': {missing} items have no score of the {who}")
    found, paired = RECKONED[suite.measured_in(unit)]
    return paired(suite, found(suite, before), found(suite, after), confidence)


def margin(suite: AnySuite, unit: Unit, who: Who, limit: float, confidence: float) -> Interval:
    """Estimate by how much one model is better than a limit: below it in loss, above it in accuracy or F1.

    A loss is compared with one that is at the limit at every token; an accuracy or F1 with that of a model that is never
    right, whose score is 0 without any spread.
    """
    found, paired = RECKONED[suite.measured_in(unit)]
    own = found(suite, who)
    if not suite.is_counted:
        return paired(suite, limit * _tokens(suite), own, confidence)
    over = paired(suite, NEVER_RIGHT[suite.measured_in(unit)](own), own, confidence)
    return replace(over, estimate=over.estimate - limit, low=over.low - limit, high=over.high - limit)


def negate(interval: Interval) -> Interval:
    """The same difference seen from the other side."""
    return replace(interval, estimate=-interval.estimate, low=-interval.high, high=-interval.low)


Counts = npt.NDArray[Any]
"""What a model did with each item of a suite: (items,) or (items, counts)."""


def _groups(suite: Any) -> list[str]:
    return [item.group for item in suite.items]


def _tokens(suite: Any) -> Counts:
    return np.array([item.tokens for item in suite.items])


def _nats(suite: Any, who: Who) -> Counts:
    return np.array([item.nats[who] for item in suite.items])


def _right(suite: Any, who: Who) -> Counts:
    return np.array([item.is_right(who) for item in suite.items])


def _labels(suite: Any, who: Who) -> Counts:
    return label_counts([item.gold for item in suite.items], [item.predicted[who] for item in suite.items])


def _spans(suite: Any, who: Who) -> Counts:
    return np.array([item.spans[who] for item in suite.items], float)


def _fall(suite: Any, before: Counts, after: Counts, confidence: float) -> Interval:
    return negate(paired_difference(before, after, _tokens(suite), _groups(suite), confidence))


def _accuracy(suite: Any, before: Counts, after: Counts, confidence: float) -> Interval:
    return paired_accuracy(before.tolist(), after.tolist(), _groups(suite), confidence)


def _statistic(measure: Callable[[Counts], Any]) -> Callable[[Any, Counts, Counts, float], Interval]:
    def paired(suite: Any, before: Counts, after: Counts, confidence: float) -> Interval:
        return paired_statistic(before, after, _groups(suite), measure, confidence)

    return paired


def _no_label_right(counts: Counts) -> Counts:
    never = counts.copy()
    never[:, : counts.shape[1] // 3] = 0
    return never


RECKONED: dict[
    Unit, tuple[Callable[[Any, Who], Counts], Callable[[Any, Counts, Counts, float], Interval]]
] = {
    "nats per token": (_nats, _fall),
    "accuracy": (_right, _accuracy),
    "exact match": (_right, _accuracy),
    "macro F1": (_labels, _statistic(macro_f1)),
    "entity F1": (_spans, _statistic(micro_f1)),
}
"""Unit -> what is taken of each item, and how two models are compared by it."""
NEVER_RIGHT: dict[Unit, Callable[[Counts], Counts]] = {
    "accuracy": np.zeros_like,
    "exact match": np.zeros_like,
    "macro F1": _no_label_right,
    "entity F1": np.zeros_like,
}
"""Unit -> what the same model would have done if it were never right."""
