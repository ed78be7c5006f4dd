"""`scores.json`: every item of every suite under every model, and what the numbers are measured in."""

import math
from collections.abc import Iterable
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import Field

from schemas.base import Schema
from schemas.spec.objectives import HeadUnit

Who = Literal["base", "champion", "candidate"]
SuiteKind = Literal["domain", "general"]
Unit = Literal["nats per token", "accuracy", "macro F1", "entity F1", "exact match", "score"]
"""`score`: tasks are measured in units of their own, all fractions; each suite says in which."""


class Measure(NamedTuple):
    """How people speak of a unit."""

    name: str
    unit: str
    """Behind a number, with its blank; empty for a fraction."""
    higher_is_better: bool

    def change(self, got_better: bool) -> str:
        """The verb of a change."""
        return "rose" if got_better == self.higher_is_better else "fell"

    @property
    def better(self) -> str:
        """The noun of a change for the better."""
        return "rise" if self.higher_is_better else "fall"

    @property
    def worse(self) -> str:
        return "fall" if self.higher_is_better else "rise"


MEASURES: dict[Unit, Measure] = {
    "nats per token": Measure("loss", " nats per token", False),
    "accuracy": Measure("accuracy", "", True),
    "macro F1": Measure("macro F1", "", True),
    "entity F1": Measure("entity F1", "", True),
    "exact match": Measure("share of right answers", "", True),
    "score": Measure("score", "", True),
}
YARDSTICKS = {
    "majority class": "always giving the most frequent training label",
    "all-O baseline": "finding no entity at all",
    "trivial baseline": "always giving the most frequent training label, or finding no entity at all,",
}
"""What is scored in the place of a base that cannot answer, and what it does."""


class ScoredSuite(Schema):
    """What every suite says of itself: verdict, pages and artifacts ask it."""

    is_counted: ClassVar[bool] = True
    """Each item is right or wrong, and the score a share of 1; otherwise it is a loss."""
    floor_title: ClassVar[str] = "floor"
    floor_words: ClassVar[str] = "what always giving one answer scores"
    unskilled: ClassVar[str] = "always giving one answer"
    """What has no skill that could be forgotten, and scores the floor."""
    skill_fix: ClassVar[str] = "give labelled rows that the base model can answer, or remove this suite"

    name: str
    kind: SuiteKind
    floor: float
    items: tuple[Any, ...]

    def measured_in(self, unit: Unit) -> Unit:
        """Its own unit, where its scores are measured in `unit`."""
        return unit

    def value(self, who: Who, unit: Unit) -> float:
        """The score that rules are about."""
        raise NotImplementedError

    def shown(self, who: Who, unit: Unit) -> dict[str, float]:
        """Numbers of a model by their titles, that which the rules are about first."""
        raise NotImplementedError

    def compared(self, before: Who) -> tuple[int, ...]:
        """Items that are right (under both models, only now, only before, under neither); of a loss, (lower now, all)."""
        counts = [0, 0, 0, 0]
        for item in self.items:
            now, then = item.is_right("candidate"), item.is_right(before)
            counts[(0 if then else 1) if now else (2 if then else 3)] += 1
        return tuple(counts)

    def label_f1(self, who: Who) -> dict[str, tuple[int, float]]:  # noqa: ARG002
        """Label that the suite has -> (its texts, its F1), where each item has one label; else nothing."""
        return {}


class ItemScore(Schema):
    """One document of a suite under each model: summed loss in nats."""

    id: str
    """`file:line` of the document."""
    group: str
    """Cluster of the document: items of one group are not independent."""
    tokens: int
    """Label tokens, the same for every model."""
    bytes: int
    """UTF-8 bytes of the document."""
    nats: dict[Who, float]

    @property
    def models(self) -> Iterable[Who]:
        return self.nats


class SuiteScores(ScoredSuite):
    """One suite, every item, every model."""

    is_counted: ClassVar[bool] = False
    floor_title: ClassVar[str] = "unigram"
    floor_words: ClassVar[str] = "what a model scores that only knows how often each token occurs"
    unskilled: ClassVar[str] = "a model that only knows how often each token occurs"
    skill_fix: ClassVar[str] = (
        "give general text of a kind and language that the base model has learnt, or remove this suite"
    )

    floor: float
    """Nats per token of a unigram model of the suite itself (leave one document out)."""
    items: tuple[ItemScore, ...]

    def nats_per_token(self, who: Who) -> float:
        return sum(item.nats[who] for item in self.items) / sum(item.tokens for item in self.items)

    def bits_per_byte(self, who: Who) -> float:
        nats = sum(item.nats[who] for item in self.items)
        return nats / 0.6931471805599453 / sum(item.bytes for item in self.items)

    def value(self, who: Who, unit: Unit) -> float:
        """See ScoredSuite."""
        assert self.measured_in(unit) == "nats per token"
        return self.nats_per_token(who)

    def measured_in(self, unit: Unit) -> Unit:  # noqa: ARG002
        """See ScoredSuite: beside a domain of answers, text is still measured by its loss."""
        return "nats per token"

    def compared(self, before: Who) -> tuple[int, ...]:
        """See ScoredSuite."""
        return sum(item.nats["candidate"] < item.nats[before] for item in self.items), len(self.items)

    def shown(self, who: Who, unit: Unit) -> dict[str, float]:
        """See ScoredSuite."""
        nats = self.nats_per_token(who)
        if unit != "nats per token":
            return {"nats per token": nats}
        return {
            "nats per token": nats,
            "bits per byte": self.bits_per_byte(who),
            "perplexity": math.exp(min(nats, 700.0)),
        }


class LabelScore(Schema):
    """One text of a suite: its label, and the label that each model gave it."""

    id: str
    """`file:line` of the text."""
    group: str
    """Cluster of the text: items of one group are not independent."""
    gold: str
    predicted: dict[Who, str]

    @property
    def models(self) -> Iterable[Who]:
        return self.predicted

    def is_right(self, who: Who) -> bool:
        return self.predicted[who] == self.gold


class LabelSuite(ScoredSuite):
    """One suite of labelled texts, every item, every model."""

    floor: float
    """What answering the most frequent training label would score."""
    items: tuple[LabelScore, ...]
    unit: HeadUnit = "accuracy"
    """What this suite is measured in, where suites differ."""

    def accuracy(self, who: Who) -> float:
        """Share of right answers."""
        return sum(item.is_right(who) for item in self.items) / len(self.items)

    def label_f1(self, who: Who) -> dict[str, tuple[int, float]]:
        """Label that the suite has -> (its texts, its F1 = 2 TP / (2 TP + FP + FN)), in the order of the names."""
        texts: dict[str, int] = {}
        given: dict[str, int] = {}
        right: dict[str, int] = {}
        for item in self.items:
            texts[item.gold] = texts.get(item.gold, 0) + 1
            given[item.predicted[who]] = given.get(item.predicted[who], 0) + 1
            right[item.gold] = right.get(item.gold, 0) + item.is_right(who)
        return {
            label: (texts[label], 2 * right[label] / (texts[label] + given.get(label, 0)))
            for label in sorted(texts)
        }

    def macro_f1(self, who: Who) -> float:
        """F1 of each label that the suite has, averaged evenly."""
        scores = self.label_f1(who).values()
        return sum(f1 for _, f1 in scores) / len(scores)

    def value(self, who: Who, unit: Unit) -> float:
        """See ScoredSuite."""
        assert self.measured_in(unit) in ("accuracy", "macro F1")
        return self.accuracy(who) if self.measured_in(unit) == "accuracy" else self.macro_f1(who)

    def measured_in(self, unit: Unit) -> Unit:
        """See ScoredSuite: tasks differ."""
        return self.unit if unit == "score" else unit

    def shown(self, who: Who, unit: Unit) -> dict[str, float]:
        """See ScoredSuite."""
        accuracy, f1 = self.accuracy(who), self.macro_f1(who)
        if unit == "score":
            return {"score in its own unit": self.value(who, unit), "right answers": accuracy}
        both = {"accuracy": accuracy, "macro F1": f1}
        return both if unit == "accuracy" else {"macro F1": f1, "accuracy": accuracy}


Spans = tuple[int, int, int]
"""Entities found whole with their type (true positives), found but not there (false positives), missed (false negatives)."""


class TagScore(Schema):
    """One sentence of a suite: what each model found of its entities."""

    id: str
    """`file:line` of the sentence."""
    group: str
    """Cluster of the sentence: items of one group are not independent."""
    words: int
    right_words: dict[Who, int]
    """Words that each model gave their very tag."""
    spans: dict[Who, Spans]

    @property
    def models(self) -> Iterable[Who]:
        return self.spans

    def is_right(self, who: Who) -> bool:
        """Whether every entity is found and nothing else."""
        return self.spans[who][1:] == (0, 0)


class TagSuite(ScoredSuite):
    """One suite of tagged sentences, every item, every model."""

    floor: float
    """What finding no entity at all would score."""
    items: tuple[TagScore, ...]
    unit: HeadUnit = "entity F1"
    """What this suite is measured in, where suites differ."""

    def spans(self, who: Who) -> Spans:
        """Sums over all sentences."""
        found = [item.spans[who] for item in self.items]
        return sum(s[0] for s in found), sum(s[1] for s in found), sum(s[2] for s in found)

    def precision(self, who: Who) -> float:
        right, wrong, _ = self.spans(who)
        return right / (right + wrong) if right + wrong else 0.0

    def recall(self, who: Who) -> float:
        right, _, missed = self.spans(who)
        return right / (right + missed) if right + missed else 0.0

    def f1(self, who: Who) -> float:
        """Micro F1 of exact spans with their types: 2 TP / (2 TP + FP + FN); 0 where there is no entity at all."""
        right, wrong, missed = self.spans(who)
        return 2 * right / (2 * right + wrong + missed) if right + wrong + missed else 0.0

    def word_accuracy(self, who: Who) -> float:
        """Share of words with the right tag."""
        return sum(item.right_words[who] for item in self.items) / sum(item.words for item in self.items)

    def value(self, who: Who, unit: Unit) -> float:
        """See ScoredSuite."""
        assert unit in ("entity F1", "score")
        return self.f1(who)

    def measured_in(self, unit: Unit) -> Unit:  # noqa: ARG002
        """See ScoredSuite."""
        return "entity F1"

    def shown(self, who: Who, unit: Unit) -> dict[str, float]:
        """See ScoredSuite."""
        if unit == "score":
            return {"score in its own unit": self.f1(who), "right answers": self.word_accuracy(who)}
        return {
            "entity F1": self.f1(who),
            "precision": self.precision(who),
            "recall": self.recall(who),
            "word accuracy": self.word_accuracy(who),
        }


class AnswerScore(Schema):
    """One prompt of a suite: its final answer, and that of the response that each model generated."""

    id: str
    """`file:line` of the prompt."""
    group: str
    """Cluster of the prompt: items of one group are not independent."""
    right: str
    answered: dict[Who, str]
    """Empty where a response has no final answer."""

    @property
    def models(self) -> Iterable[Who]:
        return self.answered

    def is_right(self, who: Who) -> bool:
        return self.answered[who] == self.right


class AnswerSuite(ScoredSuite):
    """One suite of prompts with final answers, every item, every model."""

    skill_fix: ClassVar[str] = "give prompts that the base model can answer, or remove this suite"

    floor: float
    """What always giving the most frequent answer of the suite would score."""
    items: tuple[AnswerScore, ...]

    def exact_match(self, who: Who) -> float:
        """Share of right answers."""
        return sum(item.is_right(who) for item in self.items) / len(self.items)

    def answered(self, who: Who) -> float:
        """Share of responses that have a final answer at all."""
        return sum(item.answered[who] != "" for item in self.items) / len(self.items)

    def value(self, who: Who, unit: Unit) -> float:
        """See ScoredSuite."""
        assert unit == "exact match"
        return self.exact_match(who)

    def shown(self, who: Who, unit: Unit) -> dict[str, float]:  # noqa: ARG002
        """See ScoredSuite."""
        return {"exact match": self.exact_match(who), "answered": self.answered(who)}


AnySuite = SuiteScores | LabelSuite | TagSuite | AnswerSuite


class Scores(Schema):
    """`scores.json`: all suites under base, champion (if any) and candidate."""

    unit: Unit = "nats per token"
    """What the rules are measured in."""
    yardstick: str | None = None
    """What is scored in the base's place, where the base has no head that could answer; else None."""
    parts: dict[str, tuple[int, int]] = Field(default_factory=dict)
    """Suite -> (n, of): it is the n-th of so many parts that runs of its name take in turn; the others are whole."""
    suites: tuple[AnySuite, ...]

    @property
    def measure(self) -> Measure:
        return MEASURES[self.unit]

    def unit_of(self, suite: AnySuite) -> Unit:
        """The suite's own unit."""
        return suite.measured_in(self.unit)

    def measure_of(self, suite: AnySuite) -> Measure:
        return MEASURES[self.unit_of(suite)]

    def value(self, suite: AnySuite, who: Who) -> float:
        """A suite's score in its own unit."""
        return suite.value(who, self.unit_of(suite))

    def called(self, who: Who) -> str:
        """What people call a model."""
        return self.yardstick if who == "base" and self.yardstick is not None else who
