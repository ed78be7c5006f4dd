"""Promote, reject, or say that it cannot be told: rules on paired scores, each with its interval and a reason.

Gain: the domain suite must get better than under the incumbent (the champion, or the base if there is none) by more than
min_gain: its loss fall, its accuracy or F1 rise. Forgetting: no general suite may get worse by max_forgetting, against
the incumbent and against the original base, so that small losses do not add up over increments. All rules must pass (intersection-union, Berger, 1982:
each is tested at the full confidence), so scoring more suites never makes a false promotion likelier. Absolute: where
`promotion.absolute` asks for it, the candidate's own score must be better than a number, whatever came before. A first run,
which has no champion to be held against, must at least be better on its domain than the floor: a model that only knows how
often each token occurs, or always gives one answer. Without that a base that knows nothing of the domain would make any gain
look good.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Literal

from schemas.errors import UserError
from schemas.results.artifacts import Bindings, Decision, RuleOutcome, Verdict
from schemas.results.realignment import Realignment
from schemas.results.scores import AnySuite, Scores
from schemas.spec.promotion import Promotion
from tasks.evaluation.verdict.advice import next_action, of_realignment
from tasks.evaluation.verdict.improvement import improvement, margin, negate
from tasks.evaluation.verdict.statistics import Interval, clusters_needed

Incumbent = Literal["base", "champion"]
Outcome = Literal["pass", "fail", "undecided"]


def decide(
    scores: Scores, promotion: Promotion, bindings: Bindings, realignment: Realignment | None = None
) -> Decision:
    """Apply every rule of the promotion to the scores; a re-alignment only adds to the advice.

    A run without general suites (a model from scratch has nothing to forget) is decided by its gain alone.

    Raises:
        UserError: a suite has nothing to score, or no domain suite was scored.
        ValueError: an item lacks the loss of a model that other items have.
    """
    rules = judge(scores, promotion)
    outcomes = {rule.outcome for rule in rules}
    verdict: Verdict = (
        "reject" if "fail" in outcomes else "inconclusive" if "undecided" in outcomes else "promote"
    )
    advice = next_action(verdict, rules, scores, promotion)
    return Decision(
        verdict=verdict,
        sentence=_sentence(verdict, rules),
        rules=rules,
        next_action=advice if realignment is None else f"{advice} {of_realignment(realignment)}",
        bindings=bindings,
        realignment=realignment,
    )


def judge(scores: Scores, promotion: Promotion) -> tuple[RuleOutcome, ...]:
    """Every rule with its estimate and outcome.

    Raises:
        UserError, ValueError: see `decide`.
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
    return tuple(_judge_all(scores, promotion))


def require_suites(promotion: Promotion, names: Sequence[str]) -> None:
    """Refuse an absolute rule about a suite that is not scored.

    Raises:
        UserError: the first such rule.
    """
    for name in promotion.absolute:
        if name not in names:
            fix = f"the suites are: {', '.join(names)}"
            raise UserError(f"there is no suite '{name}'", "promotion.absolute", fix)


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

    require_suites(promotion, [suite.name for suite in scores.suites])
    for name, limit in promotion.absolute.items():
        suite = next(suite for suite in scores.suites if suite.name == name)
        yield _judge_absolute(scores, suite, limit, "limit", promotion)
    # a yardstick in the base's place is the floor itself: gain is over it
    asks_floor = not has_champion and scores.yardstick is None
    for suite in scores.suites:
        if asks_floor and suite.kind == "domain" and suite.name not in promotion.absolute:
            yield _judge_absolute(scores, suite, suite.floor, "floor", promotion)


def _judge_absolute(
    scores: Scores, suite: AnySuite, limit: float, against: Literal["limit", "floor"], promotion: Promotion
) -> RuleOutcome:
    better = margin(suite, scores.unit, "candidate", limit, promotion.confidence)
    outcome: Outcome = "pass" if better.low > 0 else "fail" if better.high < 0 else "undecided"
    measure = scores.measure_of(suite)
    sign = 1 if measure.higher_is_better else -1
    low, high = sorted(limit + sign * bound for bound in (better.low, better.high))
    value = limit + sign * better.estimate
    side = "above" if measure.higher_is_better else "below"
    needed = f"{side} {limit:g}" if against == "limit" else f"{side} {limit:.3f}, {suite.floor_words}"
    bounds = (
        "no bounds: all documents are one group"
        if math.isinf(low)
        else f"{100 * better.confidence:g} % bounds {low:.3f} to {high:.3f}"
    )
    reason = f"{measure.name[0].upper()}{measure.name[1:]} on '{suite.name}' is {value:.3f}{measure.unit} ({bounds}; needed {needed})"
    return _rule("absolute", suite.name, against, better, 0.0, outcome, reason)


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
    rule: Literal["gain", "forgetting", "absolute"],
    suite: str,
    against: Literal["base", "champion", "limit", "floor"],
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
