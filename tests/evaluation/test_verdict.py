"""The verdict: each rule passes, fails or stays undecided by its interval, and says what to do."""

import numpy as np
import pytest

from schemas.errors import UserError
from schemas.results.artifacts import Bindings, Decision, ItemScore, Scores, SuiteScores
from schemas.spec.promotion import Promotion
from tasks.evaluation.verdict.verdict import decide, require_suites

BINDINGS = Bindings(spec="s", data="d", scores="c", weights="w", base="b")
PROMOTION = Promotion(min_gain=0.02, max_forgetting=0.05)


def suite(kind, rise=0.0, noise=0.01, champion=None, num_items=40, name=None, groups=None):
    """A suite of 100-token documents whose candidate loss is `rise` above the base's, give or take `noise`.

    champion: rise of the champion's loss above the base's (None: no champion).
    """
    generator = np.random.default_rng(num_items)
    shift = generator.normal(0, 1, num_items)
    shift = (shift - shift.mean()) / shift.std() if num_items > 1 else shift
    items = []
    for index in range(num_items):
        nats = {"base": 300.0, "candidate": 300.0 + 100 * (rise + noise * shift[index])}
        if champion is not None:
            nats["champion"] = 300.0 + 100 * champion
        group = groups[index] if groups else f"g{index}"
        items.append(ItemScore(id=f"f:{index}", group=group, tokens=100, bytes=400, nats=nats))
    return SuiteScores(name=name or kind, kind=kind, floor=5.0, items=tuple(items))


def verdict_of(*suites, promotion=PROMOTION) -> Decision:
    return decide(Scores(suites=suites), promotion, BINDINGS)


def outcomes(decision: Decision) -> list[tuple[str, str, str, str]]:
    return [(rule.rule, rule.suite, rule.against, rule.outcome) for rule in decision.rules]


def test_gain_without_forgetting_is_promoted():
    decision = verdict_of(suite("domain", -0.4), suite("general", 0.01))
    assert decision.verdict == "promote"
    assert outcomes(decision) == [
        ("gain", "domain", "base", "pass"),
        ("forgetting", "general", "base", "pass"),
        ("absolute", "domain", "floor", "pass"),
    ]
    assert decision.bindings == BINDINGS
    assert "rootstock generate" in decision.next_action
    assert "rollback" not in decision.next_action, "there is nothing to go back to"
    after_another = verdict_of(suite("domain", -0.4, champion=-0.1), suite("general", 0.0, champion=0.0))
    assert after_another.verdict == "promote"
    assert "`rootstock rollback NAME`" in after_another.next_action


def test_a_gain_is_told_in_one_sentence_with_its_numbers():
    reason = verdict_of(suite("domain", -0.41, noise=0.05)).rules[0].reason
    assert reason == (
        "Loss on 'domain' fell by 0.410 nats per token against the base"
        " (95 % bounds 0.396 to 0.424; needed a fall of more than 0.02)"
    )


def test_a_rise_of_the_domain_loss_is_told_as_a_rise():
    decision = verdict_of(suite("domain", 0.3, noise=0.05))
    assert decision.verdict == "reject"
    assert decision.rules[0].estimate == pytest.approx(-0.3)
    assert "rose by 0.300" in decision.sentence
    assert "bounds 0.286 to 0.314" in decision.sentence
    assert "did not learn" in decision.next_action


def test_forgetting_is_rejected_and_asks_for_more_replay():
    decision = verdict_of(suite("domain", -0.4), suite("general", 0.3))
    assert decision.verdict == "reject"
    assert decision.sentence.startswith("Reject: loss on 'general' rose by 0.300")
    assert "mixture.replay_ratio" in decision.next_action
    assert "training.learning_rate" in decision.next_action


def test_no_gain_is_rejected_and_asks_for_longer_training():
    decision = verdict_of(suite("domain", -0.01), suite("general", 0.0))
    assert decision.verdict == "reject"
    assert "Train longer" in decision.next_action
    assert "replay_ratio" not in decision.next_action


def test_one_forgotten_suite_of_many_is_enough_to_reject():
    decision = verdict_of(
        suite("domain", -0.4), suite("general", 0.0, name="a"), suite("general", 0.2, name="b")
    )
    assert decision.verdict == "reject"
    assert "'b'" in decision.next_action
    assert "'a'" not in decision.next_action


def test_a_loss_just_under_the_limit_passes_only_when_its_upper_bound_does():
    assert verdict_of(suite("domain", -0.4), suite("general", 0.04, noise=0.01)).verdict == "promote"
    assert verdict_of(suite("domain", -0.4), suite("general", 0.04, noise=0.1)).verdict == "inconclusive"


def test_doubt_says_how_many_documents_of_which_suite_would_decide():
    decision = verdict_of(suite("domain", -0.4), suite("general", 0.04, noise=0.1))
    rule = decision.rules[1]
    assert rule.outcome == "undecided"
    assert rule.clusters_needed is not None
    assert rule.clusters_needed > rule.clusters
    assert f"about {rule.clusters_needed - 40} more documents of 'general' (40 now)" in decision.next_action
    assert "would then pass" in decision.next_action
    enough = suite("general", 0.04, noise=0.1, num_items=rule.clusters_needed + 1)
    assert verdict_of(suite("domain", -0.4), enough).verdict == "promote"


def test_doubt_on_the_wrong_side_also_names_the_remedy():
    decision = verdict_of(suite("domain", -0.4), suite("general", 0.06, noise=0.1))
    assert decision.verdict == "inconclusive"
    assert "would then fail" in decision.next_action
    assert "mixture.replay_ratio" in decision.next_action


def test_a_gain_below_the_threshold_is_no_rejection_while_its_upper_bound_is_above():
    decision = verdict_of(suite("domain", -0.01, noise=0.1))
    assert decision.verdict == "inconclusive"
    assert "would then fail" in decision.next_action
    assert "Train longer" in decision.next_action


def test_documents_of_one_group_never_promote():
    decision = verdict_of(suite("domain", -0.4, groups=["same"] * 40))
    assert decision.verdict == "inconclusive"
    assert decision.rules[0].clusters_needed is None
    assert "no bounds: all documents are one group" in decision.sentence
    assert "at least 15 groups" in decision.next_action


def test_the_champion_is_the_incumbent_and_the_base_is_not_forgotten():
    """Better than the champion and within its budget, but too far below the base: small losses must not add up."""
    decision = verdict_of(suite("domain", -0.5, champion=-0.3), suite("general", 0.08, champion=0.05))
    assert outcomes(decision) == [
        ("gain", "domain", "champion", "pass"),
        ("forgetting", "general", "base", "fail"),
        ("forgetting", "general", "champion", "pass"),
    ]
    assert decision.rules[0].estimate == pytest.approx(0.2)
    assert decision.verdict == "reject"


def test_a_candidate_worse_than_the_champion_gains_nothing():
    decision = verdict_of(suite("domain", -0.3, champion=-0.5), suite("general", 0.0, champion=0.0))
    assert decision.rules[0].outcome == "fail"


def test_forgetting_what_the_champion_knew_is_rejected():
    decision = verdict_of(suite("domain", -0.5, champion=-0.3), suite("general", 0.0, champion=-0.2))
    assert outcomes(decision)[1:] == [
        ("forgetting", "general", "base", "pass"),
        ("forgetting", "general", "champion", "fail"),
    ]


def test_the_confidence_of_the_promotion_widens_the_bounds():
    scores = suite("domain", -0.03, noise=0.03)
    assert verdict_of(scores, promotion=Promotion(min_gain=0.02, confidence=0.9)).verdict == "promote"
    assert verdict_of(scores, promotion=Promotion(min_gain=0.02, confidence=0.999)).verdict == "inconclusive"


def test_manual_approval_leads_to_the_promote_command():
    decision = verdict_of(suite("domain", -0.4), promotion=Promotion(approval="manual"))
    assert "rootstock promote" in decision.next_action


def test_an_untrained_candidate_is_rejected_with_a_threshold_and_inconclusive_without():
    same = suite("domain", 0.0, noise=0.0)
    assert verdict_of(same).verdict == "reject"
    free = verdict_of(same, promotion=Promotion(min_gain=0.0))
    assert free.verdict == "inconclusive"
    assert "no number of documents would decide" in free.next_action


def test_a_decision_without_bounds_survives_its_file():
    decision = verdict_of(suite("domain", -0.4, num_items=1))
    assert Decision.model_validate_json(decision.model_dump_json()) == decision


def test_scores_without_a_domain_suite_are_refused():
    with pytest.raises(UserError) as caught:
        verdict_of(suite("general", 0.0))
    assert "no domain suite" in caught.value.what
    assert caught.value.where == "evaluation"
    assert "domain_holdout" in caught.value.fix


def test_an_empty_suite_is_refused_by_name():
    with pytest.raises(UserError) as caught:
        verdict_of(suite("domain", -0.4), suite("general", num_items=0, name="empty"))
    assert "'empty' has no tokens" in caught.value.what
    assert "'empty'" in caught.value.where
    assert "remove it" in caught.value.fix


def test_an_item_without_the_candidates_score_is_our_defect():
    scores = suite("domain", -0.4)
    broken = scores.items[0].model_copy(update={"nats": {"base": 1.0}})
    with pytest.raises(ValueError, match="1 items have no score of the candidate"):
        verdict_of(scores.model_copy(update={"items": (broken, *scores.items[1:])}))


def absolute(limit: float, **suites: float) -> Promotion:
    return PROMOTION.model_copy(update={"absolute": dict.fromkeys(suites, limit) or {"domain": limit}})


@pytest.mark.parametrize(
    ("limit", "outcome", "verdict"),
    [(2.7, "pass", "promote"), (2.601, "undecided", "inconclusive"), (2.5, "fail", "reject")],
)
def test_an_absolute_rule_holds_whatever_came_before(limit, outcome, verdict):
    decision = verdict_of(suite("domain", -0.4), suite("general", 0.01), promotion=absolute(limit))
    (rule,) = [rule for rule in decision.rules if rule.rule == "absolute"]
    assert (rule.outcome, decision.verdict) == (outcome, verdict)
    assert rule.estimate == pytest.approx(limit - 2.6)
    assert (
        f"Loss on 'domain' is 2.600 nats per token (95 % bounds 2.597 to 2.603; needed below {limit:g})"
        in rule.reason
    )
    assert rule.against == "limit"


@pytest.mark.parametrize(
    ("floor", "outcome", "verdict"),
    [(2.7, "pass", "promote"), (2.601, "undecided", "inconclusive"), (2.5, "fail", "reject")],
)
def test_a_first_run_must_be_better_on_its_domain_than_the_floor(floor, outcome, verdict):
    domain = suite("domain", -0.4).model_copy(update={"floor": floor})
    decision = verdict_of(domain, suite("general", 0.01))
    (rule,) = [rule for rule in decision.rules if rule.rule == "absolute"]
    assert (rule.against, rule.outcome, decision.verdict) == ("floor", outcome, verdict)
    assert (
        f"needed below {floor:.3f}, what a model scores that only knows how often each token occurs"
        in rule.reason
    )
    if outcome == "fail":
        assert "'domain' is 0.100 short of its floor" in decision.next_action
        assert "start from a base that knows more of it" in decision.next_action


def test_the_floor_is_not_asked_of_a_run_after_a_champion_nor_beside_a_limit_of_its_own():
    domain = suite("domain", -0.4, champion=-0.1).model_copy(update={"floor": 2.5})
    after_another = verdict_of(domain, suite("general", 0.0, champion=0.0))
    assert after_another.verdict == "promote"
    own_limit = verdict_of(
        suite("domain", -0.4).model_copy(update={"floor": 2.5}),
        suite("general", 0.01),
        promotion=absolute(2.7),
    )
    assert [rule.against for rule in own_limit.rules if rule.rule == "absolute"] == ["limit"]


def test_an_absolute_rule_about_an_unknown_suite_is_refused():
    with pytest.raises(UserError, match="the suites are: domain, general"):
        require_suites(absolute(1.0, stories=1.0), ["domain", "general"])
