"""Intervals: right by hand, right against a bootstrap, and honest in simulated A/A comparisons."""

import math

import numpy as np
import pytest
from scipy.stats import t as student

from tasks.evaluation.verdict.statistics import Interval, clusters_needed, paired_difference


def simulate(generator, num_clusters: int, effect: float, sizes: str):
    """Documents of heavy-tailed length in heavy-tailed clusters; losses differ by `effect` plus cluster noise."""
    spread = (
        generator.lognormal(0.0, 1.5, num_clusters)
        if sizes == "lognormal"
        else 1 + generator.pareto(1.5, num_clusters)
    )
    per_cluster = 1 + generator.poisson(1.0, num_clusters)
    cluster = np.repeat(np.arange(num_clusters), per_cluster)
    tokens = np.ceil(100 * spread[cluster] * generator.uniform(0.5, 1.5, len(cluster)))
    noise = 0.1 * generator.standard_t(3, num_clusters)[cluster] + generator.normal(0, 0.05, len(cluster))
    before = tokens * generator.uniform(1.0, 3.0, len(cluster))
    after = before + tokens * (effect + noise)
    return before, after, tokens, [f"g{index}" for index in cluster]


def test_equal_clusters_give_the_t_interval_of_the_jackknife():
    differences = np.array([0.1, 0.3, -0.2, 0.4, 0.15])
    interval = paired_difference(np.ones(5) * 20, 20 + 10 * differences, [10] * 5, list("abcde"), 0.95)
    # CR3 divides by 1 - 1/G where the textbook divides the variance by (G - 1) / G.
    error = differences.std(ddof=1) / math.sqrt(5) * math.sqrt(5 / 4)
    margin = student.ppf(0.95, 4) * error
    assert interval.degrees_of_freedom == pytest.approx(4)
    assert interval.estimate == pytest.approx(differences.mean())
    assert interval.standard_error == pytest.approx(error)
    assert (interval.low, interval.high) == pytest.approx(
        (interval.estimate - margin, interval.estimate + margin)
    )


def test_the_estimate_weights_tokens_not_documents():
    interval = paired_difference([0, 0], [10, 0], [10, 90], ["a", "b"], 0.9)
    assert interval.estimate == pytest.approx(0.1)


def test_documents_of_one_group_count_as_one_observation():
    generator = np.random.default_rng(0)
    after = generator.normal(0.1, 1, 12).repeat(50)
    groups = [str(index) for index in np.arange(12).repeat(50)]
    together = paired_difference(np.zeros(600), after, np.ones(600), groups, 0.95)
    apart = paired_difference(np.zeros(600), after, np.ones(600), [str(i) for i in range(600)], 0.95)
    assert together.clusters == 12
    assert together.standard_error > 6 * apart.standard_error


def test_pairing_removes_the_difficulty_of_documents():
    generator = np.random.default_rng(1)
    tokens = np.full(40, 100.0)
    before = tokens * generator.uniform(1, 6, 40)
    after = before + tokens * generator.normal(0.1, 0.02, 40)
    interval = paired_difference(before, after, tokens, [str(i) for i in range(40)], 0.95)
    assert 0.08 < interval.low < 0.1 < interval.high < 0.12


def test_one_cluster_decides_nothing():
    interval = paired_difference([1, 2], [5, 9], [10, 10], ["a", "a"], 0.95)
    assert (interval.low, interval.high, interval.clusters) == (-math.inf, math.inf, 1)
    assert interval.estimate == pytest.approx(0.55)


def test_a_cluster_that_holds_nearly_all_tokens_leaves_one_degree_of_freedom():
    tokens = [100_000, *[1] * 30]
    interval = paired_difference(np.zeros(31), np.arange(31.0), tokens, [str(i) for i in range(31)], 0.95)
    assert interval.degrees_of_freedom == pytest.approx(1, abs=0.01)


def test_documents_without_tokens_change_nothing():
    three = paired_difference([1, 2, 3], [2, 2, 5], [4, 5, 6], list("abc"), 0.95)
    assert paired_difference([1, 2, 3, 0], [2, 2, 5, 0], [4, 5, 6, 0], list("abcd"), 0.95) == three


@pytest.mark.parametrize(
    ("before", "after", "tokens", "groups", "confidence", "match"),
    [
        ([1.0], [1.0, 2.0], [1, 1], ["a", "b"], 0.95, "one entry per document"),
        ([1.0, math.nan], [1.0, 2.0], [1, 1], ["a", "b"], 0.95, "not finite"),
        ([1.0, 1.0], [1.0, math.inf], [1, 1], ["a", "b"], 0.95, "not finite"),
        ([0.0, 0.0], [0.0, 0.0], [0, 0], ["a", "b"], 0.95, "no tokens"),
        ([0.0, 0.0], [0.0, 0.0], [1, 1], ["a", "b"], 0.4, "confidence"),
    ],
)
def test_what_cannot_be_compared_is_refused(before, after, tokens, groups, confidence, match):
    with pytest.raises(ValueError, match=match):
        paired_difference(before, after, tokens, groups, confidence)


@pytest.mark.parametrize("sizes", ["lognormal", "pareto"])
@pytest.mark.parametrize("num_clusters", [15, 30, 60])
def test_false_decisions_stay_at_five_percent_in_a_a_comparisons(num_clusters: int, sizes: str):
    """The same model twice: each bound lies on the wrong side of 0 at most 5 % of the time."""
    generator = np.random.default_rng(num_clusters)
    trials = 2000
    above = below = 0
    for _ in range(trials):
        interval = paired_difference(*simulate(generator, num_clusters, 0.0, sizes), 0.95)
        above += interval.low > 0
        below += interval.high < 0
    slack = 2.5 * math.sqrt(0.05 * 0.95 / trials)
    assert above / trials <= 0.05 + slack
    assert below / trials <= 0.05 + slack
    assert (above + below) / trials >= 0.02, "so wide that it would never decide"


def test_a_planted_difference_is_found():
    generator = np.random.default_rng(8)
    found = 0
    for _ in range(200):
        interval = paired_difference(*simulate(generator, 60, 0.3, "pareto"), 0.95)
        found += interval.low > 0.05
    assert found >= 190


def bootstrap(before, after, tokens, groups, seed: int, resamples: int = 2000) -> np.ndarray:
    """The difference on clusters drawn with replacement, their documents kept together (Efron, 1979): (resamples,)."""
    _, cluster = np.unique(groups, return_inverse=True)
    difference = np.bincount(cluster, np.asarray(after) - np.asarray(before))
    sizes = np.bincount(cluster, np.asarray(tokens))
    chosen = np.random.default_rng(seed).integers(0, len(sizes), (resamples, len(sizes)))
    return difference[chosen].sum(axis=1) / sizes[chosen].sum(axis=1)


def test_the_bootstrap_agrees_where_clusters_are_many():
    data = simulate(np.random.default_rng(2), 400, 0.1, "pareto")
    linear = paired_difference(*data, 0.95)
    drawn = bootstrap(*data, seed=3)
    assert drawn.std(ddof=1) == pytest.approx(linear.standard_error, rel=0.1)
    low, high = np.quantile(drawn, [0.05, 0.95])
    assert low == pytest.approx(linear.low, abs=0.25 * linear.standard_error)
    assert high == pytest.approx(linear.high, abs=0.25 * linear.standard_error)


def test_clusters_needed_is_the_smallest_number_that_clears_the_threshold():
    interval = Interval(0.03, 0.02, -0.01, 0.07, 20, 0.95, 19.0)
    needed = clusters_needed(interval, 0.0)
    assert needed is not None

    def bound(count: int) -> float:
        return 0.03 - student.ppf(0.95, 19.0 * count / 20) * 0.02 * math.sqrt(20 / count)

    assert needed > 20
    assert bound(needed) > 0 >= bound(needed - 1)


def test_no_number_of_clusters_decides_an_estimate_at_the_threshold():
    assert clusters_needed(Interval(0.02, 0.01, 0.0, 0.04, 20, 0.95, 19.0), 0.02) is None


def test_clusters_needed_is_unknown_without_a_spread():
    one = paired_difference([1.0], [2.0], [1], ["a"], 0.95)
    assert clusters_needed(one, 0.0) is None


def test_collecting_twice_the_clusters_needed_mostly_decides():
    generator = np.random.default_rng(11)
    pilot = paired_difference(*simulate(generator, 20, 0.03, "lognormal"), 0.95)
    assert pilot.low < 0 < pilot.estimate
    needed = clusters_needed(pilot, 0.0)
    assert needed is not None
    decided = [
        paired_difference(*simulate(generator, 2 * needed, pilot.estimate, "lognormal"), 0.95).low > 0
        for _ in range(50)
    ]
    assert sum(decided) >= 35
