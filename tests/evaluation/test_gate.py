"""How often the gate errs: a model against itself, models at the limit, and planted losses of general ability.

Simulated answers, the real decision. Rates are exact for the seeds; the bounds allow for the number of repetitions.
"""

from functools import cache

import numpy as np
import pytest

from schemas.artifacts import Bindings
from schemas.promotion import Promotion
from schemas.scores import ItemScore, LabelScore, LabelSuite, Scores, SuiteScores
from tasks.evaluation.compare import margin
from tasks.evaluation.verdict import decide

BINDINGS = Bindings(spec="s", data="d", scores="c", weights="w", base="b")
REPETITIONS = 200


def losses(generator, name, kind, rise, clusters=30, spread=0.1, with_champion=False):
    """Groups of one to six documents of unequal length; every group has its own change around `rise`."""
    items = []
    for group in range(clusters):
        own = rise + spread * generator.normal()
        for document in range(int(generator.integers(1, 7))):
            tokens = int(generator.integers(20, 400))
            base = tokens * generator.normal(3, 0.5)
            change = tokens * (own + 0.05 * generator.normal())
            nats = {"base": base, "candidate": base + change}
            if with_champion:
                nats["champion"] = base
            items.append(
                ItemScore(
                    id=f"{group}:{document}", group=str(group), tokens=tokens, bytes=4 * tokens, nats=nats
                )
            )
    return SuiteScores(name=name, kind=kind, floor=9.0, items=tuple(items))


def answers(generator, name, kind, items, accuracy, loss, churn=0.08):
    """Right and wrong answers: `churn` of the items change either way, and `loss` more get worse than better."""
    right = generator.random(items) < accuracy
    turned = generator.random(items)
    worse = right & (turned < (churn / 2 + loss) / accuracy)
    better = ~right & (turned < churn / 2 / (1 - accuracy))
    after = (right & ~worse) | better
    return LabelSuite(
        name=name, kind=kind, floor=0.5,
        items=tuple(
            answer(n, old, new) for n, (old, new) in enumerate(zip(right.tolist(), after.tolist(), strict=True))
        ),
    )  # fmt: skip


@cache
def answer(number, old, new):
    """Made once: every repetition asks for the same few thousand."""
    predicted = {"base": "ab"[not old], "candidate": "ab"[not new]}
    return LabelScore(id=str(number), group=str(number), gold="a", predicted=predicted)


def verdicts(make, promotion, unit="nats per token"):
    generator = np.random.default_rng(11)
    return [
        decide(Scores(unit=unit, suites=make(generator)), promotion, BINDINGS).verdict
        for _ in range(REPETITIONS)
    ]


@pytest.mark.parametrize("clusters", [12, 60])
def test_a_model_against_itself_is_promoted_in_at_most_five_percent(clusters):
    promotion = Promotion(min_gain=0, max_forgetting=0.05)
    found = verdicts(
        lambda g: (losses(g, "domain", "domain", 0, clusters), losses(g, "general", "general", 0, clusters)),
        promotion,
    )
    assert found.count("promote") / REPETITIONS <= 0.05 + 0.03


@pytest.mark.parametrize("suites", [1, 4])
def test_a_loss_at_the_limit_is_promoted_in_at_most_five_percent_however_many_suites(suites):
    promotion = Promotion(min_gain=0.02, max_forgetting=0.05)

    def make(g):
        at_limit = [losses(g, f"general {n}", "general", 0.05) for n in range(suites)]
        return (losses(g, "domain", "domain", -0.5), *at_limit)

    assert verdicts(make, promotion).count("promote") / REPETITIONS <= 0.05 + 0.03


def test_small_losses_do_not_add_up_over_increments():
    """Level with the champion, and beyond the limit against the base: the champion had used it up."""
    promotion = Promotion(min_gain=0.02, max_forgetting=0.05)

    def make(g):
        domain = losses(g, "domain", "domain", -0.5, with_champion=True)
        general = losses(g, "general", "general", 0.12, spread=0.02, with_champion=True)
        items = tuple(
            item.model_copy(update={"nats": {**item.nats, "champion": item.nats["candidate"]}})
            for item in general.items
        )
        return domain, general.model_copy(update={"items": items})

    found = verdicts(make, promotion)
    assert set(found) == {"reject"}


def test_a_planted_loss_of_three_points_on_3000_items_is_rejected():
    promotion = Promotion(min_gain=0.02, max_forgetting=0.01)

    def make(g, loss):
        return (
            answers(g, "domain", "domain", 500, 0.5, -0.15),
            answers(g, "general", "general", 3000, 0.7, loss),
        )

    planted = verdicts(lambda g: make(g, 0.03), promotion, "accuracy")
    assert planted.count("reject") / REPETITIONS >= 0.8
    assert planted.count("promote") == 0
    harmless = verdicts(lambda g: make(g, 0.0), promotion, "accuracy")
    assert harmless.count("reject") / REPETITIONS <= 0.05
    assert harmless.count("promote") / REPETITIONS >= 0.4, "the gate lets the harmless pass"


@pytest.mark.parametrize("unit", ["accuracy", "macro F1"])
def test_an_absolute_limit_is_passed_wrongly_in_at_most_five_percent(unit):
    generator = np.random.default_rng(5)
    wrong = 0
    for _ in range(100):
        suite = answers(generator, "domain", "domain", 120, 0.8, 0.0)
        limit = 0.8 if unit == "accuracy" else 2 * 0.8 / 1.8  # F1 of the only label with texts
        wrong += margin(suite, unit, "candidate", limit, 0.95).low > 0
    assert wrong / 100 <= 0.05 + 0.04
