"""What is shown of scores: the models, the numbers of every suite, the labels."""

from collections.abc import Mapping
from typing import NamedTuple

from schemas.results.scores import AnySuite, Scores, Unit, Who
from tasks.data.labels.model_head import output_name


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
    """A number of the suites under the models, and how it is written."""

    title: str
    unit: Unit
    """What the rules are measured in."""

    def value(self, suite: AnySuite, who: Who) -> float | None:
        """None: this suite has no such number."""
        return suite.shown(who, self.unit).get(self.title)

    def write(self, suite: AnySuite, who: Who) -> str:
        value = self.value(suite, who)
        return "\u2013" if value is None else f"{value:.2f}" if self.title == "perplexity" else f"{value:.3f}"


def score_columns(scores: Scores) -> tuple[ScoreColumn, ...]:
    """Return what is shown of every suite, that which the rules are about first."""
    titles = dict.fromkeys(
        title
        for suite in sorted(scores.suites, key=lambda suite: suite.measured_in(scores.unit) != scores.unit)
        if suite.items
        for title in suite.shown(next(iter(suite.items[0].models)), scores.unit)
    )
    return tuple(ScoreColumn(title, scores.unit) for title in titles)


def label_rows(
    scores: Scores, trained: Mapping[str, int], several_tasks: bool
) -> list[tuple[str, int, int, float, float]]:
    """Return (label, training rows, scored texts, F1 before, F1 now) in the domain suites, the worst first.

    `trained`: output of the head -> training rows; with several tasks an output is called by its task too.
    """
    before, rows = incumbent(scores), []
    for suite in scores.suites:
        if before is None or suite.kind != "domain":
            continue
        task = suite.name if several_tasks else None
        old, new = suite.label_f1(before), suite.label_f1("candidate")
        for label in new:
            name = output_name(task, label)
            rows.append((name, trained.get(name, 0), new[label][0], old[label][1], new[label][1]))
    return sorted(rows, key=lambda row: (row[4], row[0]))
