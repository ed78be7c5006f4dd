"""What a verdict advises: what to change, what more to score, or how to use the new champion."""

import math

from schemas.results.artifacts import RuleOutcome, Verdict
from schemas.results.realignment import Realignment
from schemas.results.scores import Scores
from schemas.spec.promotion import Promotion


def next_action(
    verdict: Verdict, rules: tuple[RuleOutcome, ...], scores: Scores, promotion: Promotion
) -> str:
    """What to do about a verdict, in a sentence or two; RUN and NAME stand for the run and its name."""
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
    for rule in [rule for rule in rules if rule.rule == "absolute"]:
        floor = rule.against == "floor"
        actions.append(
            f"'{rule.suite}' is {abs(rule.estimate):.3f} short of {'its floor' if floor else 'promotion.absolute'}: train"
            f" longer or on more text like it, or {'start from a base that knows more of it' if floor else 'ask for less'}."
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
    return rule.estimate < rule.threshold if rule.rule == "forgetting" else rule.estimate > rule.threshold


def of_realignment(found: Realignment) -> str:
    """What a re-alignment adds to the advice."""
    told = f"{found.sentence[0].upper()}{found.sentence[1:]}"
    if found.shallow:
        return f"{told}; a little replay at the end of training may be enough."
    return f"{told}."
