"""Is the difference between two models on the same documents real? Paired, clustered, one-sided.

Loss per token is a ratio of two sums over documents, so its error is that of Cochran's ratio estimator
(Cochran, Sampling Techniques, 3rd ed., 1977, ch. 6 and 9A). Differences are taken per document first (paired)
and summed per group (clustered), as in Miller, "Adding Error Bars to Evals", 2024,
https://arxiv.org/abs/2411.00640.

Deviation from both: the textbook standard error with G - 1 degrees of freedom calls 8 to 14 % of A/A comparisons
real (nominal 5 %) when few groups hold most of the tokens, which is how documents are. So each group's residual is
divided by 1 - its share of the tokens (CR3, the jackknife: MacKinnon and White, 1985), and the degrees of freedom
are Satterthwaite's for that estimator (Bell and McCaffrey, 2002). With equal groups they are G - 1 exactly.
One-sided errors stay at 5 % for symmetric differences; strongly skewed ones with few groups can reach about 10 %.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Numbers = Sequence[float] | Sequence[int] | npt.NDArray[np.float64] | npt.NDArray[np.int64]


@dataclass(frozen=True)
class Interval:
    """An estimate with a one-sided bound on each side, in nats per token."""

    estimate: float
    standard_error: float
    low: float
    high: float
    clusters: int
    confidence: float
    """Of each bound alone."""
    degrees_of_freedom: float


@dataclass(frozen=True)
class _Clusters:
    """Sums per cluster, clusters without tokens left out."""

    difference: npt.NDArray[np.float64]  # (G,) after minus before, nats
    tokens: npt.NDArray[np.float64]  # (G,)

    @property
    def ratio(self) -> float:
        return float(self.difference.sum() / self.tokens.sum())


def paired_difference(
    before_nats: Numbers, after_nats: Numbers, tokens: Numbers, groups: Sequence[str], confidence: float
) -> Interval:
    """Estimate (sum of after - sum of before) / sum of tokens, with a bound on each side.

    All arguments but the last have one entry per document: summed nats under each model, label tokens, cluster.
    With fewer than two clusters nothing is known about the spread: the bounds are infinite.

    Raises:
        ValueError: unequal lengths, no tokens, a loss that is not finite, or a confidence outside (0.5, 1).
    """
    clusters = _sum_clusters(before_nats, after_nats, tokens, groups, confidence)
    ratio, share = clusters.ratio, clusters.tokens / clusters.tokens.sum()
    if len(share) < 2:
        return Interval(ratio, math.inf, -math.inf, math.inf, len(share), confidence, 0.0)
    residual = clusters.difference - ratio * clusters.tokens
    error = float(np.sqrt(np.sum((residual / (1 - share)) ** 2)) / clusters.tokens.sum())
    freedom = _degrees_of_freedom(share)
    margin = _margin(error, freedom, confidence)
    return Interval(ratio, error, ratio - margin, ratio + margin, len(share), confidence, freedom)


def clusters_needed(interval: Interval, threshold: float) -> int | None:
    """Count the clusters at which the bound would clear the threshold, at the present estimate and spread.

    None when no number would (the estimate lies at the threshold) or nothing is known about the spread.
    """
    gap = abs(interval.estimate - threshold)
    if gap == 0 or not math.isfinite(interval.standard_error):
        return None

    def clears(count: int) -> bool:
        factor = count / interval.clusters
        error = interval.standard_error / math.sqrt(factor)
        return _margin(error, interval.degrees_of_freedom * factor, interval.confidence) < gap

    enough = 2
    while not clears(enough):
        enough *= 2
        if enough > 2**50:
            return None
    short = enough // 2
    while enough - short > 1:
        middle = (enough + short) // 2
        enough, short = (middle, short) if clears(middle) else (enough, middle)
    return enough


def _margin(error: float, freedom: float, confidence: float) -> float:
    """Distance from the estimate to its bound."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, confidence)) * error


def _degrees_of_freedom(share: npt.NDArray[np.float64]) -> float:
    """Satterthwaite's degrees of freedom of the CR3 variance, (sum C_gg)^2 / sum C_gh^2.

    C is the covariance of the scaled residuals when a group's variance grows with its tokens:
    C_gg = p_g and C_gh = -p_g p_h for p = share / (1 - share), up to a common factor.
    """
    p = share / (1 - share)
    square = p**2
    off_diagonal = square.sum() ** 2 - np.sum(square**2)
    return float(p.sum() ** 2 / (square.sum() + off_diagonal))


def _sum_clusters(
    before_nats: Numbers, after_nats: Numbers, tokens: Numbers, groups: Sequence[str], confidence: float
) -> _Clusters:
    before, after, label_tokens = (np.asarray(x, dtype=np.float64) for x in (before_nats, after_nats, tokens))
    if not len(before) == len(after) == len(label_tokens) == len(groups):
        raise ValueError("before, after, tokens and groups need one entry per document each")
    if not 0.5 < confidence < 1:
        raise ValueError(f"confidence must lie between 0.5 and 1, got {confidence}")
    if not (np.isfinite(before).all() and np.isfinite(after).all()):
        raise ValueError("a loss is not finite")
    if not (label_tokens >= 0).all() or label_tokens.sum() == 0:
        raise ValueError("there are no tokens to compare on")
    names, cluster = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    difference, sizes = np.zeros(len(names)), np.zeros(len(names))
    np.add.at(difference, cluster, after - before)
    np.add.at(sizes, cluster, label_tokens)
    return _Clusters(difference[sizes > 0], sizes[sizes > 0])
