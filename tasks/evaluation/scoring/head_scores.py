"""Answers of all models set beside the labels, item by item; and the yardstick of a base that cannot answer."""

from collections.abc import Mapping, Sequence

from schemas.results.scores import (
    AnySuite,
    LabelScore,
    LabelSuite,
    Scores,
    Spans,
    TagScore,
    TagSuite,
    Unit,
    Who,
)
from schemas.spec.objectives import HeadUnit, Objective
from tasks.data.labels.labels import Labels
from tasks.data.read.entity_tags import entities
from tasks.evaluation.scoring.predictions import OUTSIDE, Answers, load_answers
from tasks.evaluation.suites.items import Suite
from tasks.storage.steps import Step


def assemble_head_scores(
    suites: Sequence[Suite], steps: Mapping[Who, Step], objective: Objective, labels: Labels
) -> Scores:
    """Put the answers of all models beside the labels.

    If the base was not asked (it has no head), a yardstick stands for it: always the most frequent training label, or
    no entity anywhere.
    """
    objectives = [objective.of_task(suite.task) for suite in suites]
    units = [one.head_unit for one in objectives]
    common: Unit = units[0] if len(set(units)) == 1 else "score"
    yardstick = None if "base" in steps else _yardstick(objectives)
    assembled: list[AnySuite] = []
    for number, (suite, own, unit) in enumerate(zip(suites, objectives, units, strict=True)):
        classification = not own.tags_words
        answers: dict[Who, Answers] = {who: load_answers(step, number) for who, step in steps.items()}
        known = majority(suite, labels) if classification else [[OUTSIDE] * len(i.gold) for i in suite.items]
        if yardstick is not None:
            answers = {"base": known, **answers}
        build = _label_suite if classification else _tag_suite
        floor = build(suite, 0.0, {"base": known}, unit).value("base", unit)
        assembled.append(build(suite, floor, answers, unit))
    return Scores(unit=common, yardstick=yardstick, suites=tuple(assembled))


def _yardstick(objectives: Sequence[Objective]) -> str:
    kinds = {not one.tags_words for one in objectives}
    if len(kinds) > 1:
        return "trivial baseline"
    return "majority class" if True in kinds else "all-O baseline"


def majority(suite: Suite, labels: Labels) -> Answers:
    """The most frequent training label of the task for every document; the first of equally frequent ones."""
    counts = labels.of_task(suite.task)
    label = max(counts, key=lambda name: counts[name])
    return [[label] for _ in suite.items]


def _label_suite(suite: Suite, floor: float, answers: Mapping[Who, Answers], unit: HeadUnit) -> LabelSuite:
    items = tuple(
        LabelScore(
            id=item.id,
            group=item.group,
            gold=item.gold[0],
            predicted={who: found[index][0] for who, found in answers.items()},
        )
        for index, item in enumerate(suite.items)
    )
    return LabelSuite(name=suite.name, kind=suite.kind, floor=floor, items=items, unit=unit)


def _tag_suite(suite: Suite, floor: float, answers: Mapping[Who, Answers], unit: HeadUnit) -> TagSuite:
    items = tuple(
        TagScore(
            id=item.id,
            group=item.group,
            words=len(item.gold),
            right_words={
                who: sum(a == b for a, b in zip(found[index], item.gold, strict=True))
                for who, found in answers.items()
            },
            spans={who: count_spans(item.gold, found[index]) for who, found in answers.items()},
        )
        for index, item in enumerate(suite.items)
    )
    return TagSuite(name=suite.name, kind=suite.kind, floor=floor, items=items, unit=unit)


def count_spans(gold: Sequence[str], found: Sequence[str]) -> Spans:
    """(true positives, false positives, false negatives) of exact spans with their types."""
    wanted, given = entities(gold), entities(found)
    right = len(wanted & given)
    return right, len(given) - right, len(wanted) - right
