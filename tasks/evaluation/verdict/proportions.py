"""Is the difference between two models' right answers, or F1, on the same items real? Paired, clustered, one-sided.

Accuracy: Tango's score interval for paired proportions (Tango, 1998, https://pubmed.ncbi.nlm.nih.gov/9595618/). Unlike
the t interval of `statistics`, it does not shrink to nothing where the two models happen to differ on no item. Items of
one group are not independent: all counts are divided by the design effect, how many times larger the clustered variance
(CR3, see `statistics`) is than that of independent items (Rao and Scott, 1992).

F1: percentile bootstrap over groups (Efron, 1979), both models on the same resampled groups, at the quantiles that make it
as wide as a t interval where groups are few (Hesterberg, 2015, https://arxiv.org/abs/1411.5279). Its bounds are never closer than a change that may well have shown in none of the G groups, 1 - (1 - confidence)^(1/G): the "rule of three" (Hanley
and Lippman-Hand, 1983).
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from tasks.evaluation.verdict.statistics import Interval, paired_difference

Counts = npt.NDArray[np.float64]
RESAMPLES = 4000
RESAMPLES_AT_ONCE = 500


def paired_accuracy(
    before: Sequence[bool], after: Sequence[bool], groups: Sequence[str], confidence: float
) -> Interval:
    """Estimate the accuracy after minus before, with a bound on each side. One entry per item.

    With fewer than two groups nothing is known about the spread: the bounds are infinite.
    """
    old, new = np.asarray(before, float), np.asarray(after, float)
    plain = paired_difference(old, new, np.ones(len(old)), groups, confidence)
    if plain.clusters < 2:
        return plain
    from scipy.special import stdtrit

    num = len(old)
    gained, lost = float(np.sum(new > old)), float(np.sum(new < old))
    alone = plain  # each item a group of its own: the usual case, and grouping thousands of names is slow
    if plain.clusters < num:
        alone = paired_difference(old, new, np.ones(num), [str(item) for item in range(num)], confidence)
    size = _effective_size(num, plain, alone)
    quantile = float(stdtrit(plain.degrees_of_freedom, confidence))
    low, high = _score_bounds(gained / num * size, lost / num * size, size, quantile)
    low, high = min(low, plain.estimate), max(high, plain.estimate)
    return _interval(
        plain.estimate, low, high, plain.clusters, confidence, quantile, plain.degrees_of_freedom
    )


def _effective_size(num: int, grouped: Interval, alone: Interval) -> float:
    """Independent items that would tell as much; where the models differ nowhere, one a group."""
    if alone.standard_error == 0:
        return float(grouped.clusters)
    return num / max(1.0, (grouped.standard_error / alone.standard_error) ** 2)


def _score_bounds(gained: float, lost: float, num: float, quantile: float) -> tuple[float, float]:
    """Differences that a score test would just not refuse."""

    def score(difference: float) -> float:
        b = -gained - lost + (2 * num - gained + lost) * difference
        c = -lost * difference * (1 - difference)
        share_lost = (math.sqrt(max(b * b - 8 * num * c, 0.0)) - b) / (4 * num)
        variance = num * (2 * share_lost + difference * (1 - difference))
        return (gained - lost - num * difference) / math.sqrt(max(variance, 1e-300))

    def root(wanted: float) -> float:
        low, high = -1.0, 1.0  # the score falls as the difference rises
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if score(middle) > wanted else (low, middle)
        return (low + high) / 2

    return root(quantile), root(-quantile)


def paired_statistic(
    before: Counts,
    after: Counts,
    groups: Sequence[str],
    statistic: Callable[[Counts], npt.NDArray[np.float64]],
    confidence: float,
    seed: int = 0,
) -> Interval:
    """Estimate statistic(sum of after) - statistic(sum of before), with bootstrapped bounds.

    before, after: counts of each item that add up, (items, K). statistic: sums (R, K) -> values (R,).
    """
    from scipy.special import ndtr, stdtrit

    names, cluster = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    sums = []
    for counts in (before, after):
        total = np.zeros((len(names), counts.shape[1]))
        np.add.at(total, cluster, counts)
        sums.append(total)
    estimate = float((statistic(sums[1].sum(0)[None]) - statistic(sums[0].sum(0)[None]))[0])
    num = len(names)
    if num < 2:
        return Interval(estimate, math.inf, -math.inf, math.inf, num, confidence, 0.0)
    generator = np.random.default_rng(seed)
    drawn = []
    for _ in range(RESAMPLES // RESAMPLES_AT_ONCE):
        times = generator.multinomial(num, np.full(num, 1 / num), size=RESAMPLES_AT_ONCE).astype(float)
        drawn.append(statistic(times @ sums[1]) - statistic(times @ sums[0]))
    quantile = float(stdtrit(num - 1, confidence))
    wider = float(ndtr(math.sqrt(num / (num - 1)) * quantile))
    low, high = np.quantile(np.concatenate(drawn), [1 - wider, wider])
    unseen = 1 - (1 - confidence) ** (1 / num)
    low, high = max(-1.0, min(float(low), estimate - unseen)), min(1.0, max(float(high), estimate + unseen))
    return _interval(estimate, low, high, num, confidence, quantile, num - 1.0)


def _interval(
    estimate: float,
    low: float,
    high: float,
    clusters: int,
    confidence: float,
    quantile: float,
    freedom: float,
) -> Interval:
    """The error is that of the wider side, so that the number of groups a decision needs is not promised too low."""
    error = max(estimate - low, high - estimate) / quantile
    return Interval(estimate, error, low, high, clusters, confidence, freedom)


def micro_f1(sums: Counts) -> npt.NDArray[np.float64]:
    """F1 of (true positives, false positives, false negatives), (R, 3); 0 where all are 0."""
    denominator = 2 * sums[:, 0] + sums[:, 1] + sums[:, 2]
    f1: npt.NDArray[np.float64] = 2 * sums[:, 0] / np.where(denominator > 0, denominator, 1)
    return f1


def macro_f1(sums: Counts) -> npt.NDArray[np.float64]:
    """Mean F1 of the labels that have texts, from (right, given, texts) of each label: (R, 3 L)."""
    right, given, texts = np.split(sums, 3, axis=1)  # each (R, L)
    f1 = 2 * right / np.maximum(given + texts, 1)
    has = texts > 0
    mean: npt.NDArray[np.float64] = (f1 * has).sum(axis=1) / np.maximum(has.sum(axis=1), 1)
    return mean


def label_counts(gold: Sequence[str], predicted: Sequence[str]) -> Counts:
    """(right, given, texts) of every label that the gold has, for each item: (items, 3 L)."""
    names = {label: number for number, label in enumerate(sorted(set(gold)))}
    counts = np.zeros((3, len(gold), len(names)))
    for row, (wanted, found) in enumerate(zip(gold, predicted, strict=True)):
        counts[2, row, names[wanted]] = 1
        if found in names:
            counts[1, row, names[found]] = 1
            counts[0, row, names[found]] = found == wanted
    return np.concatenate(list(counts), axis=1)
