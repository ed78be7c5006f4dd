"""`scores.json`: every item of every suite under every model, and what the numbers are measured in."""

from collections.abc import Iterable
from typing import Literal, NamedTuple

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


class SuiteScores(Schema):
    """One suite, every item, every model."""

    name: str
    kind: SuiteKind
    floor: float
    """Nats per token of a unigram model of the suite itself (leave one document out)."""
    items: tuple[ItemScore, ...]

    def nats_per_token(self, who: Who) -> float:
        return sum(item.nats[who] for item in self.items) / sum(item.tokens for item in self.items)

    def bits_per_byte(self, who: Who) -> float:
        nats = sum(item.nats[who] for item in self.items)
        return nats / 0.6931471805599453 / sum(item.bytes for item in self.items)

    def value(self, who: Who, unit: Unit) -> float:
        """The score that rules are about."""
        assert unit == "nats per token"
        return self.nats_per_token(who)


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


class LabelSuite(Schema):
    """One suite of labelled texts, every item, every model."""

    name: str
    kind: SuiteKind
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
        """The score that rules are about."""
        unit = self.unit if unit == "score" else unit
        assert unit in ("accuracy", "macro F1")
        return self.accuracy(who) if unit == "accuracy" else self.macro_f1(who)


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


class TagSuite(Schema):
    """One suite of tagged sentences, every item, every model."""

    name: str
    kind: SuiteKind
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
        """The score that rules are about."""
        assert unit in ("entity F1", "score")
        return self.f1(who)


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


class AnswerSuite(Schema):
    """One suite of prompts with final answers, every item, every model."""

    name: str
    kind: SuiteKind
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
        """The score that rules are about."""
        assert unit == "exact match"
        return self.exact_match(who)


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
        """The suite's own unit: beside a domain of answers, general text is still measured by its loss; tasks differ."""
        if isinstance(suite, SuiteScores):
            return "nats per token"
        return suite.unit if self.unit == "score" and not isinstance(suite, AnswerSuite) else self.unit

    def measure_of(self, suite: AnySuite) -> Measure:
        return MEASURES[self.unit_of(suite)]

    def value(self, suite: AnySuite, who: Who) -> float:
        """A suite's score in its own unit."""
        return suite.value(who, self.unit_of(suite))

    def called(self, who: Who) -> str:
        """What people call a model."""
        return self.yardstick if who == "base" and self.yardstick is not None else who
