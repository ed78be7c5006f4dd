"""Promote, reject, or say that it cannot be told: rules on paired scores, each with its interval and a reason.

Gain: the domain suite must get better than under the incumbent (the champion, or the base if there is none) by more than
min_gain: its loss fall, its accuracy or F1 rise. Forgetting: no general suite may get worse by max_forgetting, against
the incumbent and against the original base, so that small losses do not add up over increments. All rules must pass (intersection-union, Berger, 1982:
each is tested at the full confidence), so scoring more suites never makes a false promotion likelier.
"""

import math
from collections.abc import Iterator
from typing import Literal

from schemas.artifacts import Bindings, Decision, RuleOutcome, Verdict
from schemas.errors import UserError
from schemas.promotion import Promotion
from schemas.scores import AnySuite, Scores
from tasks.evaluation.compare import improvement, negate
from tasks.evaluation.statistics import Interval, clusters_needed

Incumbent = Literal["base", "champion"]
Outcome = Literal["pass", "fail", "undecided"]


def decide(scores: Scores, promotion: Promotion, bindings: Bindings) -> Decision:
    """Apply every rule of the promotion to the scores.

    A run without general suites (a model from scratch has nothing to forget) is decided by its gain alone.

    Raises:
        UserError: a suite has nothing to score, or no domain suite was scored.
        ValueError: an item lacks the loss of a model that other items have.
    """
    for suite in scores.suites:
        if not any(getattr(item, "tokens", True) for item in suite.items):
            raise UserError(
                f"suite '{suite.name}' has no tokens to score",
                f"evaluation, suite '{suite.name}'",
                "give it documents of at least two tokens, or remove it",
            )
    if not any(suite.kind == "domain" for suite in scores.suites):
        raise UserError(
            "no domain suite was scored: gain cannot be measured",
            "evaluation",
            "set evaluation.domain_holdout or evaluation.domain",
        )
    rules = tuple(_judge_all(scores, promotion))
    outcomes = {rule.outcome for rule in rules}
    verdict: Verdict = (
        "reject" if "fail" in outcomes else "inconclusive" if "undecided" in outcomes else "promote"
    )
    return Decision(
        verdict=verdict,
        sentence=_sentence(verdict, rules),
        rules=rules,
        next_action=_next_action(verdict, rules, scores, promotion),
        bindings=bindings,
    )


def _judge_all(scores: Scores, promotion: Promotion) -> Iterator[RuleOutcome]:
    has_champion = any("champion" in item.models for suite in scores.suites for item in suite.items)
    incumbent: Incumbent = "champion" if has_champion else "base"
    for suite in scores.suites:
        if suite.kind == "domain":
            yield _judge_gain(scores, suite, incumbent, promotion)
    for suite in scores.suites:
        if suite.kind == "general":
            yield _judge_forgetting(scores, suite, "base", promotion)
            if has_champion:
                yield _judge_forgetting(scores, suite, "champion", promotion)


def _judge_gain(scores: Scores, suite: AnySuite, against: Incumbent, promotion: Promotion) -> RuleOutcome:
    need, measure = promotion.min_gain, scores.measure_of(suite)
    better = improvement(suite, scores.unit, against, "candidate", promotion.confidence)
    outcome: Outcome = "pass" if better.low > need else "fail" if better.high < need else "undecided"
    reason = _change(scores, suite, against, better, f"needed a {measure.better} of more than {need:g}")
    return _rule("gain", suite.name, against, better, need, outcome, reason)


def _judge_forgetting(
    scores: Scores, suite: AnySuite, against: Incumbent, promotion: Promotion
) -> RuleOutcome:
    limit, measure = promotion.max_forgetting, scores.measure_of(suite)
    better = improvement(suite, scores.unit, against, "candidate", promotion.confidence)
    worse = negate(better)
    outcome: Outcome = "pass" if worse.high < limit else "fail" if worse.low > limit else "undecided"
    reason = _change(scores, suite, against, better, f"allowed a {measure.worse} of less than {limit:g}")
    return _rule("forgetting", suite.name, against, worse, limit, outcome, reason)


def _rule(
    rule: Literal["gain", "forgetting"],
    suite: str,
    against: Incumbent,
    interval: Interval,
    threshold: float,
    outcome: Outcome,
    reason: str,
) -> RuleOutcome:
    return RuleOutcome(
        rule=rule,
        suite=suite,
        against=against,
        estimate=interval.estimate,
        low=interval.low,
        high=interval.high,
        threshold=threshold,
        outcome=outcome,
        reason=reason,
        clusters=interval.clusters,
        clusters_needed=clusters_needed(interval, threshold) if outcome == "undecided" else None,
    )


def _change(scores: Scores, suite: AnySuite, against: Incumbent, better: Interval, rule: str) -> str:
    """Say how the score changed: the bounds are of a fall or of a rise, whichever the estimate is."""
    measure = scores.measure_of(suite)
    got_better = better.estimate > 0 or (better.estimate == 0 and measure.higher_is_better)
    shown = better if got_better else negate(better)
    if math.isinf(shown.low):
        bounds = "no bounds: all documents are one group"
    else:
        bounds = f"{100 * better.confidence:g} % bounds {shown.low:.3f} to {shown.high:.3f}"
    name = measure.name[0].upper() + measure.name[1:]
    by = f"{abs(better.estimate):.3f}{measure.unit}"
    if measure.higher_is_better:
        by += f" to {scores.value(suite, 'candidate'):.3f}"
    moved = f"{measure.change(got_better)} by {by}"
    if measure.higher_is_better and better.estimate == 0:
        moved = f"stayed at {scores.value(suite, 'candidate'):.3f}"
    return f"{name} on '{suite.name}' {moved} against the {scores.called(against)} ({bounds}; {rule})"


def _sentence(verdict: Verdict, rules: tuple[RuleOutcome, ...]) -> str:
    if verdict == "promote":
        telling = [rule for rule in rules if rule.rule == "gain"]
        forgetting = [rule for rule in rules if rule.rule == "forgetting"]
        telling += [max(forgetting, key=lambda rule: rule.high)] if forgetting else []
    else:
        telling = [rule for rule in rules if rule.outcome == ("fail" if verdict == "reject" else "undecided")]
        telling.sort(key=lambda rule: (rule.rule != "forgetting", rule.against != "base"))
    reasons = "; ".join(rule.reason[0].lower() + rule.reason[1:] for rule in telling[:3])
    more = f"; {len(telling) - 3} more like it" if len(telling) > 3 else ""
    opening = {"promote": "Promote", "reject": "Reject", "inconclusive": "Inconclusive"}[verdict]
    return f"{opening}: {reasons}{more}."


def _next_action(
    verdict: Verdict, rules: tuple[RuleOutcome, ...], scores: Scores, promotion: Promotion
) -> str:
    if verdict == "reject":
        return _remedy([rule for rule in rules if rule.outcome == "fail"], scores)
    if verdict == "inconclusive":
        return _more_evidence([rule for rule in rules if rule.outcome == "undecided"], scores)
    if promotion.approval == "manual":
        return "Look at the report, then approve the waiting challenger with `rootstock promote RUN`."
    if scores.measure.higher_is_better and scores.unit != "exact match":
        advice = "Score the new champion on other data with `rootstock evaluate RUN SPEC`"
    else:
        advice = 'Try the new champion with `rootstock generate RUN "a prompt of your domain"`'
    if any(rule.against == "champion" for rule in rules):  # else it is the first
        advice += "; `rootstock rollback NAME` brings the previous one back"
    return f"{advice}."


def _remedy(rules: list[RuleOutcome], scores: Scores) -> str:
    """What to change in the specification so that these rules may hold next time."""
    forgot = sorted({rule.suite for rule in rules if rule.rule == "forgetting"})
    gained_too_little = [rule for rule in rules if rule.rule == "gain"]
    actions = []
    if forgot:
        suites = ", ".join(f"'{suite}'" for suite in forgot)
        actions.append(
            f"Raise mixture.replay_ratio with replay text of the kind of {suites}, or lower training.learning_rate."
        )
    for rule in gained_too_little:
        if rule.estimate <= 0 and rule.against == "champion":
            actions.append(
                f"The champion knows '{rule.suite}' at least as well already: give it new domain text, or keep it."
            )
        elif rule.estimate <= 0 and scores.unit == "exact match":
            actions.append(
                f"The model answers '{rule.suite}' no better: train longer (training.epochs or steps), try a higher and a"
                " lower training.learning_rate, and check that responses end with their answers and that"
                " objective.max_new_tokens leaves room for them."
            )
        elif rule.estimate <= 0 and scores.measure.higher_is_better:
            actions.append(
                f"The head did not learn '{rule.suite}': train longer (training.epochs or steps), try a higher and a lower"
                " training.learning_rate, and check that the labels belong to the texts."
            )
        elif rule.estimate <= 0:
            actions.append(
                f"The model did not learn '{rule.suite}': check that `domain` and the suite are the same kind of text,"
                " and lower training.learning_rate."
            )
        elif forgot:
            actions.append(f"Then give more domain text: '{rule.suite}' gained too little as well.")
        else:
            actions.append(
                f"Train longer (training.tokens, epochs or steps), raise training.learning_rate, or give more domain"
                f" text like '{rule.suite}'."
            )
    return " ".join(actions)


def _more_evidence(undecided: list[RuleOutcome], scores: Scores) -> str:
    num_items = {
        suite.name: sum(getattr(item, "tokens", 1) > 0 for item in suite.items) for suite in scores.suites
    }
    hardest: dict[str, RuleOutcome] = {}  # of each suite, the rule that needs the most documents
    for rule in undecided:
        known = hardest.get(rule.suite)
        if known is None or (rule.clusters_needed or 0) > (known.clusters_needed or 0):
            hardest[rule.suite] = rule
    actions = [_more_documents(rule, num_items[rule.suite]) for rule in hardest.values()]
    wrong_side = [rule for rule in undecided if not _leans_to_pass(rule)]
    if wrong_side:
        actions.append(
            f"Or change the training, since the estimate lies on the wrong side: {_remedy(wrong_side, scores)}"
        )
    return " ".join(actions)


def _more_documents(rule: RuleOutcome, num_items: int) -> str:
    if rule.clusters < 2:
        return (
            f"All {num_items} documents of '{rule.suite}' are one group: score at least 15 groups that do not depend"
            " on one another."
        )
    if rule.clusters_needed is None:
        return f"The estimate of '{rule.suite}' lies at the threshold: no number of documents would decide."
    wanted = math.ceil(num_items / rule.clusters * rule.clusters_needed)
    leaning = "pass" if _leans_to_pass(rule) else "fail"
    return (
        f"Score about {wanted - num_items:,} more documents of '{rule.suite}' ({num_items:,} now), and raise"
        f" evaluation.max_tokens to hold them; at the present estimate the {rule.rule} rule would then {leaning}."
    )


def _leans_to_pass(rule: RuleOutcome) -> bool:
    return rule.estimate > rule.threshold if rule.rule == "gain" else rule.estimate < rule.threshold
