"""What is shown of scores: the models, the numbers of every suite, the labels."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from schemas.results.scores import AnswerSuite, AnySuite, LabelSuite, Scores, SuiteScores, TagSuite, Who
from tasks.data.labels.model_head import output_name
from tasks.release.pages import pictures


def models_scored(scores: Scores) -> tuple[Who, ...]:
    """Return the models that every item of every suite has a score under, oldest first."""
    everyone: tuple[Who, ...] = ("base", "champion", "candidate")
    items = [item for suite in scores.suites for item in suite.items]
    return tuple(who for who in everyone if items and all(who in item.models for item in items))


def incumbent(scores: Scores) -> Who | None:
    """Return the model the candidate would replace: the champion, else the base, if scored at all."""
    older: list[Who] = [who for who in models_scored(scores) if who != "candidate"]
    return older[-1] if older else None


class ScoreColumn(NamedTuple):
    """A number of a suite under a model, and how it is written."""

    title: str
    form: str
    of: Callable[[Any, Who], float]
    only: type[AnySuite] | None = None
    """The kind of suite that has this number, where suites differ."""

    def value(self, suite: AnySuite, who: Who) -> float | None:
        return self.of(suite, who) if self.only is None or isinstance(suite, self.only) else None

    def write(self, suite: AnySuite, who: Who) -> str:
        value = self.value(suite, who)
        return "\u2013" if value is None else self.form % value


def score_columns(scores: Scores) -> tuple[ScoreColumn, ...]:
    """Return what is shown of every suite, that which the rules are about first."""
    if scores.unit == "nats per token":
        return (
            ScoreColumn("nats per token", "%.3f", lambda suite, who: suite.nats_per_token(who)),
            ScoreColumn("bits per byte", "%.3f", lambda suite, who: suite.bits_per_byte(who)),
            ScoreColumn("perplexity", "%.2f", lambda s, who: math.exp(min(s.nats_per_token(who), 700.0))),
        )
    if scores.unit == "exact match":
        answers = (
            ScoreColumn("exact match", "%.3f", lambda suite, who: suite.exact_match(who), AnswerSuite),
            ScoreColumn("answered", "%.3f", lambda suite, who: suite.answered(who), AnswerSuite),
        )
        loss = ScoreColumn(
            "nats per token", "%.3f", lambda suite, who: suite.nats_per_token(who), SuiteScores
        )
        texts = any(isinstance(suite, SuiteScores) for suite in scores.suites)
        return (*answers, loss) if texts else answers
    if scores.unit == "entity F1":
        return (
            ScoreColumn("entity F1", "%.3f", lambda suite, who: suite.f1(who)),
            ScoreColumn("precision", "%.3f", lambda suite, who: suite.precision(who)),
            ScoreColumn("recall", "%.3f", lambda suite, who: suite.recall(who)),
            ScoreColumn("word accuracy", "%.3f", lambda suite, who: suite.word_accuracy(who)),
        )
    if scores.unit == "score":
        return (
            ScoreColumn("score in its own unit", "%.3f", lambda suite, who: suite.value(who, "score")),
            ScoreColumn("right answers", "%.3f", _right_answers),
        )
    accuracy = ScoreColumn("accuracy", "%.3f", lambda suite, who: suite.accuracy(who))
    f1 = ScoreColumn("macro F1", "%.3f", lambda suite, who: suite.macro_f1(who))
    return (accuracy, f1) if scores.unit == "accuracy" else (f1, accuracy)


def _right_answers(suite: Any, who: Who) -> float:
    """Share of texts, or of words, with the right label."""
    return suite.word_accuracy(who) if isinstance(suite, TagSuite) else float(suite.accuracy(who))


def improved(suite: AnySuite, before: Who) -> tuple[int, ...]:
    """Return (documents with a lower loss than before, documents); with a head, see `pictures.right_counts`."""
    if isinstance(suite, SuiteScores):
        return sum(item.nats["candidate"] < item.nats[before] for item in suite.items), len(suite.items)
    return pictures.right_counts(suite, before)


def label_rows(
    scores: Scores, trained: Mapping[str, int], several_tasks: bool
) -> list[tuple[str, int, int, float, float]]:
    """Return (label, training rows, scored texts, F1 before, F1 now) in the domain suites, the worst first.

    `trained`: output of the head -> training rows; with several tasks an output is called by its task too.
    """
    before, rows = incumbent(scores), []
    for suite in scores.suites:
        if before is None or suite.kind != "domain" or not isinstance(suite, LabelSuite):
            continue
        task = suite.name if several_tasks else None
        old, new = suite.label_f1(before), suite.label_f1("candidate")
        for label in new:
            name = output_name(task, label)
            rows.append((name, trained.get(name, 0), new[label][0], old[label][1], new[label][1]))
    return sorted(rows, key=lambda row: (row[4], row[0]))
