"""The verdict on heads: fractions, higher is better, and honest where items are few."""

import pytest

from schemas.results.artifacts import Bindings
from schemas.results.scores import LabelScore, LabelSuite, Scores, TagScore, TagSuite
from schemas.spec.promotion import Promotion
from tasks.evaluation.verdict.verdict import decide

BOUND = Bindings(spec="1", data="2", scores="3", weights="4", base="5")
RULES = Promotion(min_gain=0.05, max_forgetting=0.05)


def labels(name, kind, right: dict[str, int], num: int) -> LabelSuite:
    """A suite of which each model gets the first so many right."""
    items = tuple(
        LabelScore(
            id=f"f:{n}",
            group=str(n),
            gold="ab"[n % 2],
            predicted={who: "ab"[n % 2] if n < count else "ba"[n % 2] for who, count in right.items()},
        )
        for n in range(num)
    )
    return LabelSuite(name=name, kind=kind, floor=0.5, items=items)


def tags(name, kind, right: dict[str, int], num: int) -> TagSuite:
    """A suite of one entity a sentence, of which each model finds the first so many."""
    items = tuple(
        TagScore(
            id=f"f:{n}", group=str(n), words=5, right_words=dict.fromkeys(right, 5),
            spans={who: (1, 0, 0) if n < count else (0, 0, 1) for who, count in right.items()},
        )
        for n in range(num)
    )  # fmt: skip
    return TagSuite(name=name, kind=kind, floor=0.0, items=items)


MAKE = {"accuracy": labels, "macro F1": labels, "entity F1": tags}


def scores(unit, *suites, yardstick=None) -> Scores:
    return Scores(unit=unit, yardstick=yardstick, suites=tuple(MAKE[unit](*suite) for suite in suites))


@pytest.mark.parametrize("unit", MAKE)
def test_a_rise_is_a_gain_and_a_fall_is_none(unit) -> None:
    better = decide(scores(unit, ("domain", "domain", {"base": 100, "candidate": 160}, 200)), RULES, BOUND)
    assert better.verdict == "promote"
    assert better.rules[0].estimate > 0.1
    assert better.rules[0].low > 0.05
    worse = decide(scores(unit, ("domain", "domain", {"base": 160, "candidate": 100}, 200)), RULES, BOUND)
    assert worse.verdict == "reject"
    assert worse.rules[0].estimate < 0


@pytest.mark.parametrize("unit", MAKE)
def test_a_general_suite_that_falls_rejects_and_one_that_holds_does_not(unit) -> None:
    domain = ("domain", "domain", {"base": 100, "candidate": 160}, 200)
    held = ("old", "general", {"base": 900, "candidate": 900}, 1000)
    lost = ("old", "general", {"base": 900, "candidate": 700}, 1000)
    assert decide(scores(unit, domain, held), RULES, BOUND).verdict == "promote"
    decision = decide(scores(unit, domain, lost), RULES, BOUND)
    assert decision.verdict == "reject"
    rule = decision.rules[1]
    assert (rule.rule, rule.outcome) == ("forgetting", "fail")
    assert rule.estimate > 0.1, "forgetting is positive when the score falls"


@pytest.mark.parametrize("unit", MAKE)
def test_a_few_equal_answers_do_not_prove_that_nothing_is_forgotten(unit) -> None:
    domain = ("domain", "domain", {"base": 100, "candidate": 160}, 200)
    few = ("old", "general", {"base": 12, "candidate": 12}, 15)
    decision = decide(scores(unit, domain, few), RULES, BOUND)
    assert decision.verdict == "inconclusive"
    assert decision.rules[1].clusters_needed > 15
    assert "Score about" in decision.next_action


def test_the_champion_is_the_one_to_beat_and_forgetting_is_against_both() -> None:
    domain = ("domain", "domain", {"base": 100, "champion": 158, "candidate": 160}, 200)
    old = ("old", "general", {"base": 900, "champion": 905, "candidate": 902}, 1000)
    decision = decide(scores("accuracy", domain, old), RULES, BOUND)
    assert [(rule.rule, rule.against) for rule in decision.rules] == [
        ("gain", "champion"), ("forgetting", "base"), ("forgetting", "champion")
    ]  # fmt: skip
    assert decision.verdict in ("reject", "inconclusive")
    assert decision.rules[0].outcome != "pass"


def test_the_reason_names_the_unit_the_level_and_the_yardstick() -> None:
    domain = ("domain", "domain", {"base": 100, "candidate": 160}, 200)
    decision = decide(scores("accuracy", domain, yardstick="majority class"), RULES, BOUND)
    reason = decision.rules[0].reason
    assert reason.startswith(
        "Accuracy on 'domain' rose by 0.300 to 0.800 against the majority class (95 % bounds"
    )
    assert reason.endswith("needed a rise of more than 0.05)")
    assert "nats" not in decision.sentence
    assert "rootstock evaluate" in decision.next_action


def test_the_metric_decides() -> None:
    """Accuracy rises by favouring the frequent label; macro F1 falls."""
    gold = ["a"] * 90 + ["b"] * 10
    before = ["a"] * 70 + ["b"] * 20 + ["b"] * 10
    items = tuple(
        LabelScore(id=str(n), group=str(n), gold=g, predicted={"base": b, "candidate": "a"})
        for n, (g, b) in enumerate(zip(gold * 4, before * 4, strict=True))
    )
    suite = LabelSuite(name="domain", kind="domain", floor=0.4, items=items)
    assert decide(Scores(unit="accuracy", suites=(suite,)), RULES, BOUND).verdict == "promote"
    assert decide(Scores(unit="macro F1", suites=(suite,)), RULES, BOUND).verdict == "reject"


def test_of_several_tasks_each_must_gain_in_its_own_unit() -> None:
    def together(words: int) -> Scores:
        texts = labels("spam", "domain", {"base": 100, "candidate": 160}, 200)
        macro = texts.model_copy(update={"name": "intents", "unit": "macro F1"})
        found = tags("people", "domain", {"base": 0, "candidate": words}, 200)
        return Scores(unit="score", yardstick="trivial baseline", suites=(texts, macro, found))

    good = decide(together(150), RULES, BOUND)
    assert good.verdict == "promote"
    assert [rule.suite for rule in good.rules] == ["spam", "intents", "people"]
    alone = decide(scores("accuracy", ("spam", "domain", {"base": 100, "candidate": 160}, 200)), RULES, BOUND)
    assert good.rules[0].low == alone.rules[0].low
    macro = decide(scores("macro F1", ("x", "domain", {"base": 100, "candidate": 160}, 200)), RULES, BOUND)
    assert good.rules[1].low == macro.rules[0].low != alone.rules[0].low
    assert decide(together(2), RULES, BOUND).verdict == "reject", "two tasks gained, one did not"
