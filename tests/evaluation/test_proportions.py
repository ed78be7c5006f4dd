"""Intervals of paired accuracies and F1 err as often as they promise, also where two models hardly differ."""

import itertools
import math

import numpy as np
import pytest

from tasks.evaluation.verdict.proportions import (
    label_counts,
    macro_f1,
    micro_f1,
    paired_accuracy,
    paired_statistic,
)


def bounds(gained: int, lost: int, num: int, confidence: float = 0.95):
    """Interval of `num` independent items, of which so many became right and so many wrong."""
    before = [False] * gained + [True] * lost + [True] * (num - gained - lost)
    after = [True] * gained + [False] * lost + [True] * (num - gained - lost)
    return paired_accuracy(before, after, [str(n) for n in range(num)], confidence)


def test_the_estimate_is_the_difference_of_the_accuracies() -> None:
    interval = bounds(12, 5, 100)
    assert interval.estimate == pytest.approx(0.07)
    assert interval.low < 0.07 < interval.high
    assert interval.clusters == 100


@pytest.mark.parametrize(("gained", "lost", "num"), [(12, 5, 100), (0, 3, 40), (0, 0, 25), (30, 1, 60)])
def test_the_bounds_are_where_tangos_score_test_just_does_not_refuse(gained, lost, num) -> None:
    """Tango (1998), eq. 9, with the restricted maximum likelihood found by a grid instead of his formula."""
    from scipy.stats import t

    def score(difference: float) -> float:
        shares = np.linspace(max(0, -difference), (1 - difference) / 2, 200_001)[1:-1]  # of lost items
        same = num - gained - lost
        loglik = (
            gained * np.log(shares + difference)
            + lost * np.log(shares)
            + same * np.log1p(-2 * shares - difference)
        )
        best = float(shares[np.argmax(loglik)])
        variance = num * (2 * best + difference - difference**2)
        return (gained - lost - num * difference) / math.sqrt(variance)

    interval, quantile = bounds(gained, lost, num), float(t.ppf(0.95, num - 1))
    assert score(interval.low) == pytest.approx(quantile, abs=0.02)
    assert score(interval.high) == pytest.approx(-quantile, abs=0.02)


def test_models_that_never_differ_may_still_differ_a_little() -> None:
    """A t interval would be [0, 0]: 10 equal answers would prove that accuracy fell by less than 5 points."""
    assert bounds(0, 0, 10).low < -0.2
    assert -0.01 < bounds(0, 0, 1000).low < 0
    assert bounds(0, 0, 30).high == pytest.approx(-bounds(0, 0, 30).low)


@pytest.mark.parametrize("num", [30, 80])
@pytest.mark.parametrize(("gains", "loses"), [(0.0, 0.05), (0.05, 0.1), (0.3, 0.35), (0.02, 0.07)])
def test_the_lower_bound_is_above_the_truth_about_as_often_as_promised(num, gains, loses) -> None:
    """Exactly, over all outcomes: a true fall of 5 points is called smaller in about 5 % of cases."""
    from scipy.stats import multinomial

    chance = 0.0
    for gained, lost in itertools.product(range(num + 1), repeat=2):
        if gained + lost > num:
            continue
        weight = multinomial.pmf([gained, lost, num - gained - lost], num, [gains, loses, 1 - gains - loses])
        if weight > 1e-7 and bounds(gained, lost, num).low > gains - loses:
            chance += weight
    assert chance < 0.08


def test_groups_count_as_one_item_each_if_their_items_always_agree() -> None:
    rng = np.random.default_rng(0)
    before, after = rng.random(40) < 0.6, rng.random(40) < 0.7
    alone = paired_accuracy(before.tolist(), after.tolist(), [str(n) for n in range(40)], 0.95)
    groups = [str(n // 10) for n in range(400)]
    together = paired_accuracy(np.repeat(before, 10).tolist(), np.repeat(after, 10).tolist(), groups, 0.95)
    many = [str(n) for n in range(400)]
    naive = paired_accuracy(np.repeat(before, 10).tolist(), np.repeat(after, 10).tolist(), many, 0.95)
    assert (together.low, together.high) == pytest.approx((alone.low, alone.high), abs=0.02)
    assert naive.high - naive.low < (alone.high - alone.low) / 2.5


def test_one_group_gives_no_bounds() -> None:
    interval = paired_accuracy([True, False], [True, True], ["g", "g"], 0.95)
    assert (interval.low, interval.high) == (-math.inf, math.inf)
    counts = np.array([[1.0, 0, 0], [0, 1, 1]])
    assert paired_statistic(counts, counts, ["g", "g"], micro_f1, 0.95).low == -math.inf


def test_micro_f1_of_counts() -> None:
    assert micro_f1(np.array([[3.0, 1, 2], [0, 0, 0], [0, 2, 0]])) == pytest.approx([6 / 9, 0, 0])


def reference_macro_f1(gold: list[str], predicted: list[str]) -> float:
    """Precision and recall of each label of the gold, one by one."""
    scores = []
    for label in set(gold):
        right = sum(g == p == label for g, p in zip(gold, predicted, strict=True))
        precision = right / max(1, predicted.count(label))
        recall = right / gold.count(label)
        scores.append(0.0 if right == 0 else 2 * precision * recall / (precision + recall))
    return sum(scores) / len(scores)


@pytest.mark.parametrize("seed", range(5))
def test_macro_f1_is_the_mean_of_the_labels_f1(seed) -> None:
    rng = np.random.default_rng(seed)
    gold = rng.choice(["a", "b", "c"], 50, p=[0.7, 0.2, 0.1]).tolist()
    predicted = rng.choice(["a", "b", "c", "never in gold"], 50).tolist()
    found = macro_f1(label_counts(gold, predicted).sum(0)[None])[0]
    assert found == pytest.approx(reference_macro_f1(gold, predicted))


def test_a_bootstrap_interval_covers_the_truth_about_as_often_as_promised() -> None:
    """Spans of 60 sentences under two taggers whose F1 differ by a known amount."""
    rng = np.random.default_rng(1)

    def sentences(count: int, recall: float) -> np.ndarray:
        gold = rng.poisson(2, count)
        right = rng.binomial(gold, recall)
        return np.stack([right, rng.poisson(0.3, count), gold - right], axis=1).astype(float)

    truth = float(np.diff([micro_f1(sentences(400_000, r).sum(0)[None])[0] for r in (0.6, 0.7)])[0])
    groups = [str(n) for n in range(60)]
    below = 0
    for _ in range(200):
        interval = paired_statistic(sentences(60, 0.6), sentences(60, 0.7), groups, micro_f1, 0.95)
        below += interval.low > truth
    assert below / 200 < 0.1


def test_a_bootstrap_never_claims_what_its_groups_could_not_show() -> None:
    same = np.array([[2.0, 0, 0]] * 20)
    interval = paired_statistic(same, same, [str(n) for n in range(20)], micro_f1, 0.95)
    assert interval.low == pytest.approx(-(1 - 0.05 ** (1 / 20)))
    assert interval.estimate == 0


def test_a_bootstrap_is_the_same_every_time() -> None:
    rng = np.random.default_rng(2)
    one, two = rng.poisson(2, (30, 3)).astype(float), rng.poisson(2, (30, 3)).astype(float)
    groups = [str(n % 11) for n in range(30)]
    assert paired_statistic(one, two, groups, micro_f1, 0.9) == paired_statistic(
        one, two, groups, micro_f1, 0.9
    )


def test_with_few_groups_a_bootstrapped_bound_is_as_far_as_that_of_a_t_interval() -> None:
    """Of a mean the right width is known; the plain percentiles are 15 % too near with ten groups."""
    from scipy.stats import t

    values = np.random.default_rng(4).normal(0, 0.7, 10)
    after = np.stack([values, np.ones(10)], axis=1)
    before = np.stack([np.zeros(10), np.ones(10)], axis=1)
    found = paired_statistic(before, after, [str(n) for n in range(10)], lambda s: s[:, 0] / s[:, 1], 0.95)
    wanted = t.ppf(0.95, 9) * values.std(ddof=1) / np.sqrt(10)
    assert wanted > 1 - 0.05 ** (1 / 10), "else the bound would be that of what no group showed"
    assert (found.high - found.low) / 2 == pytest.approx(wanted, rel=0.05)
