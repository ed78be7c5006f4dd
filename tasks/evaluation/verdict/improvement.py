"""How much better one model is than another on a suite, in the suite's own unit, with its uncertainty."""

from dataclasses import replace

import numpy as np

from schemas.results.scores import AnswerSuite, AnySuite, LabelSuite, SuiteScores, TagSuite, Unit, Who
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
    groups = [item.group for item in suite.items]
    if isinstance(suite, SuiteScores):
        rise = paired_difference(
            [item.nats[before] for item in suite.items],
            [item.nats[after] for item in suite.items],
            [item.tokens for item in suite.items],
            groups,
            confidence,
        )
        return negate(rise)
    if isinstance(suite, TagSuite):
        spans = [np.array([item.spans[who] for item in suite.items], float) for who in (before, after)]
        return paired_statistic(spans[0], spans[1], groups, micro_f1, confidence)
    if isinstance(suite, AnswerSuite):
        answered = [[item.is_right(who) for item in suite.items] for who in (before, after)]
        return paired_accuracy(answered[0], answered[1], groups, confidence)
    return _labels(suite, unit, before, after, groups, confidence)


def margin(suite: AnySuite, unit: Unit, who: Who, limit: float, confidence: float) -> Interval:
    """Estimate by how much one model is better than a limit: below it in loss, above it in accuracy or F1.

    An accuracy or F1 is compared with that of a model that is never right, whose score is 0 without any spread.
    """
    groups = [item.group for item in suite.items]
    unit = suite.unit if unit == "score" and isinstance(suite, LabelSuite) else unit
    if isinstance(suite, SuiteScores):
        tokens = [item.tokens for item in suite.items]
        at_limit = [limit * number for number in tokens]
        return negate(
            paired_difference(at_limit, [item.nats[who] for item in suite.items], tokens, groups, confidence)
        )
    if isinstance(suite, TagSuite):
        counts = np.array([item.spans[who] for item in suite.items], float)
        found = paired_statistic(np.zeros_like(counts), counts, groups, micro_f1, confidence)
    elif isinstance(suite, AnswerSuite) or unit == "accuracy":
        right = [item.is_right(who) for item in suite.items]
        found = paired_accuracy([False] * len(right), right, groups, confidence)
    else:
        counts = label_counts(
            [item.gold for item in suite.items], [item.predicted[who] for item in suite.items]
        )
        never = counts.copy()
        never[:, : counts.shape[1] // 3] = 0
        found = paired_statistic(never, counts, groups, macro_f1, confidence)
    return replace(found, estimate=found.estimate - limit, low=found.low - limit, high=found.high - limit)


def _labels(
    suite: LabelSuite, unit: Unit, before: Who, after: Who, groups: list[str], confidence: float
) -> Interval:
    if (suite.unit if unit == "score" else unit) == "accuracy":
        right = [[item.is_right(who) for item in suite.items] for who in (before, after)]
        return paired_accuracy(right[0], right[1], groups, confidence)
    gold = [item.gold for item in suite.items]
    counts = [label_counts(gold, [item.predicted[who] for item in suite.items]) for who in (before, after)]
    return paired_statistic(counts[0], counts[1], groups, macro_f1, confidence)


def negate(interval: Interval) -> Interval:
    """The same difference seen from the other side."""
    return replace(interval, estimate=-interval.estimate, low=-interval.high, high=-interval.low)
