"""Methods are compared in pairs, over seeds and items, and called level unless the difference is real."""

import numpy as np
import pytest

from schemas.results.comparison import Cell, CellResult, Comparison
from schemas.results.scores import ItemScore, LabelScore, LabelSuite, Scores, SuiteScores
from tasks.evaluation.comparison.ranking import (
    best_rate,
    best_rates,
    label_of,
    over_seeds,
    rank_methods,
    side_by_side,
)
from tasks.evaluation.verdict.statistics import paired_difference


def suite(losses: list[float], base: float = 5.0, name: str = "domain", kind: str = "domain") -> SuiteScores:
    """Documents of ten tokens, each a group, with these losses per token of the candidate."""
    items = tuple(
        ItemScore(id=f"f:{n}", group=str(n), tokens=10, bytes=40, nats={"base": 10 * base, "candidate": 10 * loss})
        for n, loss in enumerate(losses)
    )  # fmt: skip
    return SuiteScores(name=name, kind=kind, floor=9.0, items=items)


def result(
    method: int, seed: int, losses: list[float], rate: float = 0.1, general: float = 4.0
) -> CellResult:
    from schemas.results.comparison import Latency
    from schemas.results.counts import Parameters

    cell = Cell(method=method, base="", documents="all", learning_rate=rate, seed=seed)
    scores = Scores(suites=(suite(losses), suite([general] * 8, 4.0, "general", "general")))
    parameters = Parameters(total=10, trainable=method + 1, changed=3, added=0, stored_bytes=40, ranks=None)
    latency = Latency(base=2.0, tuned=3.0, merged=None)
    return CellResult(cell=cell, scores=scores, parameters=parameters, seconds=2.0, domain_tokens=100, peak_memory_bytes=7, latency=latency)  # fmt: skip


COMPARISON = Comparison.model_validate(
    {"name": "x", "spec": "s.yaml", "methods": [{"kind": "full"}, {"kind": "lora"}, {"kind": "lora", "r": 2}], "learning_rates": [0.1, 0.2], "seeds": [1, 2, 3]}
)  # fmt: skip


def losses(generator: np.random.Generator, mean: float, spread: float = 0.3) -> list[float]:
    return (mean + spread * generator.normal(size=30)).tolist()


def test_the_interval_over_seeds_errs_no_more_often_than_it_promises():
    generator = np.random.default_rng(5)
    missed = 0
    for _ in range(400):
        intervals = []
        for _ in range(3):
            shift, before = 0.2 * generator.normal(), generator.normal(5, 1, 40)
            after = before + 0.5 + shift + 0.5 * generator.normal(size=40)
            groups = [str(n) for n in range(40)]
            intervals.append(paired_difference(before, after, np.ones(40), groups, 0.95))
        mean = over_seeds(intervals, 0.95)
        missed += mean.low > 0.5
    assert missed / 400 <= 0.07


def test_seeds_that_disagree_widen_the_interval():
    groups = [str(n) for n in range(20)]
    alike = [
        paired_difference(np.zeros(20), np.full(20, 1.0) + np.arange(20) / 100, np.ones(20), groups, 0.95)
    ] * 3
    apart = [
        paired_difference(np.zeros(20), np.full(20, v) + np.arange(20) / 100, np.ones(20), groups, 0.95)
        for v in (0, 1, 2)
    ]
    assert over_seeds(apart, 0.95).estimate == pytest.approx(over_seeds(alike, 0.95).estimate)
    assert over_seeds(apart, 0.95).low < over_seeds(alike, 0.95).low - 0.5


def test_one_seed_has_the_interval_of_its_items():
    groups = [str(n) for n in range(20)]
    only = paired_difference(np.zeros(20), np.arange(20), np.ones(20), groups, 0.95)
    assert over_seeds([only], 0.95).low == pytest.approx(only.low)


def test_the_rate_with_the_lowest_loss_is_kept_and_ties_take_the_smaller():
    generator = np.random.default_rng(1)
    good, bad = losses(generator, 2.0), losses(generator, 3.0)
    assert best_rate([result(0, 0, bad, 0.1), result(0, 0, good, 0.2)]) == 0.2
    assert best_rate([result(0, 0, good, 0.2), result(0, 0, good, 0.1)]) == 0.1
    refused = CellResult(cell=result(0, 0, good).cell, refused="diverged")
    assert best_rate([refused, result(0, 0, bad, 0.2)]) == 0.2
    assert best_rate([refused]) is None
    level = [result(0, 0, good, 0.2), result(0, 0, bad, 0.3), result(0, 0, good, 0.1)]
    assert best_rates(level) == [0.1, 0.2]


def test_methods_are_ranked_in_pairs_and_equal_ones_are_level():
    generator = np.random.default_rng(2)
    final, tried = [], []
    for seed in (1, 2, 3):
        documents = losses(generator, 3.0)
        noise = [0.001 * generator.normal() for _ in documents]
        final.append(result(0, seed, documents))
        final.append(result(1, seed, [a + b for a, b in zip(documents, noise, strict=True)], general=4.1))
        final.append(result(2, seed, [a + 0.05 + b for a, b in zip(documents, noise, strict=True)]))
    tried = [result(m, 0, [3.0] * 30, rate) for m in (0, 1, 2) for rate in (0.1, 0.05 if m else 0.2)]
    rows = rank_methods(COMPARISON, tried, final)
    by_method = {row.method: row for row in rows}
    assert {rows[0].method, rows[1].method} == {0, 1}
    assert rows[2].method == 2
    assert by_method[0].level_with_best
    assert by_method[1].level_with_best
    assert not by_method[2].level_with_best, "0.05 behind on every document, though documents differ by 0.3"
    assert by_method[2].behind_best.estimate == pytest.approx(0.05, abs=0.002)
    assert by_method[1].forgetting["general"].estimate == pytest.approx(0.1)
    assert by_method[0].gain.estimate == pytest.approx(2.0, abs=0.2)
    assert by_method[0].latency_tuned == 1.5
    assert [row.rate_at_edge for row in rows] == [True] * 3
    tried.append(result(1, 0, [3.0] * 30, 0.2))
    edges = {row.method: row.rate_at_edge for row in rank_methods(COMPARISON, tried, final)}
    assert edges == {0: True, 1: False, 2: True}, (
        "0.1 has a neighbour on both sides where 0.05 and 0.2 were tried"
    )


def test_every_method_is_held_against_the_reference_in_pairs():
    generator = np.random.default_rng(4)
    shared = [losses(generator, 2.0) for _ in COMPARISON.seeds]
    final = [
        result(method, seed, [loss - ahead for loss in shared[n]])
        for n, seed in enumerate(COMPARISON.seeds)
        for method, ahead in ((0, 0.0), (1, 0.05), (2, -0.05))
    ]
    comparison = COMPARISON.model_copy(update={"reference": "full"})
    by_method = {row.method: row for row in rank_methods(comparison, [], final)}
    assert by_method[0].ahead_of_reference is None
    assert by_method[1].ahead_of_reference.estimate == pytest.approx(0.05)
    assert by_method[1].ahead_of_reference.low > 0, "ahead on every document, though documents differ by 0.3"
    assert by_method[2].ahead_of_reference.high < 0
    with pytest.raises(ValueError, match="reference: 'lora' must be the kind of exactly one"):
        Comparison.model_validate(COMPARISON.model_dump() | {"reference": "lora"})


def test_a_refused_method_is_a_row_with_its_reason():
    good = [result(0, seed, [2.0] * 10) for seed in (1, 2, 3)]
    cell = Cell(method=1, base="", documents="all", learning_rate=0.1, seed=0)
    tried = [
        CellResult(cell=cell, refused="no such modules"),
        CellResult(cell=cell.model_copy(update={"method": 2}), refused="x"),
    ]
    rows = rank_methods(COMPARISON, tried, good)
    assert [(row.method, row.refused) for row in rows] == [(0, None), (1, "no such modules"), (2, "x")]


def test_models_scored_on_different_items_are_not_compared():
    with pytest.raises(ValueError, match="different items"):
        side_by_side(suite([1.0, 2.0]), suite([1.0, 2.0, 3.0]))


def test_labels_are_put_side_by_side_too():
    def labels(answers: list[str]) -> LabelSuite:
        items = tuple(
            LabelScore(id=str(n), group=str(n), gold="a", predicted={"base": "b", "candidate": answer})
            for n, answer in enumerate(answers)
        )
        return LabelSuite(name="domain", kind="domain", floor=0.5, items=items)

    both = side_by_side(labels(["a", "b"]), labels(["b", "a"]))
    assert [item.predicted for item in both.items] == [
        {"base": "a", "candidate": "b"},
        {"base": "b", "candidate": "a"},
    ]


def test_methods_of_one_kind_are_told_apart_by_their_settings():
    assert [label_of(COMPARISON, n) for n in range(3)] == ["full", "lora (defaults)", "lora (r 2)"]
