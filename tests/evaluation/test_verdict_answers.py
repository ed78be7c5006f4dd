"""The verdict on answers: the domain in right answers, general text beside it in nats, each told in its own words."""

import math

import pytest

from schemas.errors import UserError
from schemas.results.artifacts import Bindings
from schemas.results.scores import AnswerScore, AnswerSuite, ItemScore, Scores, SuiteScores
from schemas.spec.promotion import Promotion
from tasks.evaluation.comparison.ranking import side_by_side
from tasks.evaluation.verdict.floor import refuse_floor
from tasks.evaluation.verdict.improvement import improvement
from tasks.evaluation.verdict.proportions import paired_accuracy
from tasks.evaluation.verdict.verdict import decide

BOUND = Bindings(spec="1", data="2", scores="3", weights="4", base="5")
RULES = Promotion(min_gain=0.05, max_forgetting=0.05)


def answers(right: dict[str, int], num: int = 200, kind="domain", floor: float = 0.0) -> AnswerSuite:
    """A suite of which each model answers the first so many right."""
    items = tuple(
        AnswerScore(
            id=f"f:{n}",
            group=str(n),
            right=str(n),
            answered={who: str(n) if n < count else "" for who, count in right.items()},
        )
        for n in range(num)
    )
    return AnswerSuite(name=kind, kind=kind, floor=floor, items=items)


def text(rise: float, num: int = 200) -> SuiteScores:
    """General text whose loss rises by so much per token."""
    items = tuple(
        ItemScore(
            id=f"t:{n}",
            group=str(n),
            tokens=10,
            bytes=40,
            nats={"base": 30.0, "candidate": 30.0 + 10 * rise + 0.1 * math.sin(n)},
        )
        for n in range(num)
    )
    return SuiteScores(name="wiki", kind="general", floor=6.0, items=items)


def test_right_answers_decide_gain_and_nats_decide_forgetting() -> None:
    scores = Scores(unit="exact match", suites=(answers({"base": 60, "candidate": 110}), text(0.01)))
    decision = decide(scores, RULES, BOUND)
    assert decision.verdict == "promote"
    gain, forgetting, floor = decision.rules
    assert gain.estimate == pytest.approx(0.25)
    assert gain.reason.startswith(
        "Share of right answers on 'domain' rose by 0.250 to 0.550 against the base"
    )
    assert forgetting.estimate == pytest.approx(0.01, abs=1e-3)
    assert forgetting.reason.startswith("Loss on 'wiki' rose by 0.010 nats per token against the base")
    assert (floor.rule, floor.against, floor.suite) == ("absolute", "floor", "domain")
    assert "what always giving one answer scores" in floor.reason


def test_text_that_is_forgotten_rejects_however_many_answers_are_right() -> None:
    scores = Scores(unit="exact match", suites=(answers({"base": 60, "candidate": 190}), text(0.2)))
    decision = decide(scores, RULES, BOUND)
    assert decision.verdict == "reject"
    assert [rule.outcome for rule in decision.rules] == ["pass", "fail", "pass"]


def test_no_more_right_answers_are_no_gain() -> None:
    scores = Scores(unit="exact match", suites=(answers({"base": 110, "candidate": 100}), text(0.0)))
    decision = decide(scores, RULES, BOUND)
    assert decision.rules[0].outcome == "fail"
    assert "answers 'domain' no better" in decision.next_action


def test_the_interval_is_tangos_for_paired_proportions() -> None:
    suite = answers({"base": 60, "candidate": 75}, 120)
    found = improvement(suite, "exact match", "base", "candidate", 0.95)
    right = [[n < 60 for n in range(120)], [n < 75 for n in range(120)]]
    assert found == paired_accuracy(right[0], right[1], [str(n) for n in range(120)], 0.95)


def test_a_general_suite_that_the_base_cannot_answer_is_refused_and_text_is_held_to_its_own_floor() -> None:
    domain = answers({"base": 0}, floor=0.1)
    refuse_floor(Scores(unit="exact match", suites=(domain, text(0.0))))
    with pytest.raises(
        UserError, match=r"no skill on suite 'general'.*its exact match is 0.050, no better than the 0.100"
    ):
        refuse_floor(
            Scores(unit="exact match", suites=(domain, answers({"base": 10}, kind="general", floor=0.1)))
        )
    low = text(0.0).model_copy(update={"floor": 2.0})
    with pytest.raises(UserError, match=r"no skill on suite 'wiki'.*its loss is 3.000 nats per token"):
        refuse_floor(Scores(unit="exact match", suites=(domain, low)))


def test_two_candidates_are_set_side_by_side() -> None:
    one, other = answers({"base": 0, "candidate": 40}), answers({"base": 0, "candidate": 90})
    both = side_by_side(one, other)
    assert improvement(both, "exact match", "base", "candidate", 0.95).estimate == pytest.approx(0.25)


def test_scores_with_answers_are_read_back_as_they_were() -> None:
    scores = Scores(unit="exact match", suites=(answers({"base": 1, "candidate": 2}, 5), text(0.1, 3)))
    assert Scores.model_validate_json(scores.model_dump_json()) == scores
