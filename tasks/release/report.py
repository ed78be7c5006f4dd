"""The run's report: one HTML file that shows what happened, opens anywhere and loads nothing from elsewhere."""

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from schemas.artifacts import (
    Decision,
    FileLedger,
    GateReport,
    Ledger,
    Lineage,
    MixtureReport,
    RuleOutcome,
    StepMetrics,
)
from schemas.counts import Latency, Parameters
from schemas.objectives import MultiTask
from schemas.replay_choice import ReplayChoice
from schemas.run import RunSpec
from schemas.scores import YARDSTICKS, AnswerSuite, AnySuite, LabelSuite, Scores, SuiteScores, TagSuite, Who
from tasks.data.base_head import output_name
from tasks.evaluation.continual import Continual
from tasks.release import method_told, over_time, pictures
from tasks.release.replay_picture import replay_curve
from tasks.storage.atomic import write_atomic

_MOST_FILES = 100
"""Rows of the ledger's table: more are summed up in one line (ledger.json has them all)."""


class Sample(NamedTuple):
    """The same prompt continued by both models."""

    prompt: str
    base_text: str
    candidate_text: str


@dataclass(frozen=True)
class ReportData:
    """Everything the report and the model card show of a finished run."""

    run: str
    """Run id."""
    spec: RunSpec
    decision: Decision
    scores: Scores
    ledger: Ledger
    mixture: MixtureReport
    gates: Sequence[GateReport]
    metrics: Sequence[StepMetrics]
    parameters: Parameters
    latency: Latency
    lineage: Lineage
    seconds: Mapping[str, float]
    """Stage -> seconds, in the order they ran."""
    device: str
    samples: Sequence[tuple[str, str, str]] = ()
    """(prompt, base's text, candidate's text)"""
    labels: Mapping[str, int] = field(default_factory=dict)
    """Output of the head -> training rows (or words) that have it; empty for language modelling."""
    choice: ReplayChoice | None = None
    """Of the replay ratio, where a budget was given."""
    increments: Continual | None = None
    """Of an increment: the champions it comes from and itself, the last."""
    remedies: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Kind of each remedy -> what it tells of the training."""
    method: Mapping[str, Any] = field(default_factory=dict)
    """What the method tells of the training: gates, ranks, which layers trained."""


def write_report(path: Path, report: ReportData) -> None:
    """Write `report.html`: self-contained, every piece of data escaped."""
    html = html_templates().get_template("report.html.j2").render(r=report, **_view(report))
    # A file name need not be Unicode on Linux; the page must be.
    write_atomic(path, html.encode("utf-8", "backslashreplace"))


def html_templates() -> Environment:
    """Return the templates beside this file, with escaping on and unknown names an error."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        signed=pictures.signed,
        breakable=breakable,
        commands=commands,
        count=count,
        plain=plain,
        short=short,
        share=share,
        duration=duration,
        size=size,
    )
    return environment


def commands(text: str) -> Markup:
    """Set what stands between backticks as code; everything is escaped."""
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if number % 2 else escape(part)
        for number, part in enumerate(re.split("`([^`]+)`", text))
    )


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


def spec_yaml(spec: RunSpec) -> str:
    """Write the resolved specification as YAML."""
    from ruamel.yaml import YAML

    yaml, stream = YAML(), io.StringIO()
    yaml.width = 1000
    yaml.dump(spec.model_dump(mode="json", exclude_none=True), stream)
    return stream.getvalue()


def base_name(spec: RunSpec) -> str:
    """Name what the run started from, in a few words."""
    if spec.base is None:
        return "the champion"
    return spec.base if isinstance(spec.base, str) else "a new model (from scratch)"


def breakable(path: str) -> Markup:
    """Allow line breaks of a path where a reader expects them."""
    return Markup("").join(
        escape(part) if part not in ("/", "_", "-") else escape(part) + Markup("<wbr>")
        for part in re.split("([/_-])", path)
    )


def count(number: float) -> str:
    return f"{number:,.0f}"


def plain(number: float) -> str:
    """Write a measured value: thousands apart, no digits that say nothing."""
    return f"{number:,.0f}" if number == int(number) else f"{number:,.4g}"


def short(number: float) -> str:
    """Write a large count with a unit: 1.2 M."""
    for unit, power in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(number) >= 0.9995 * power:
            return f"{number / power:.3g} {unit}"
    return f"{number:g}"


def share(ratio: float, digits: int = 1) -> str:
    return f"{100 * ratio:.{digits}f}\u00a0%"


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def size(num_bytes: float) -> str:
    for unit, power in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= power:
            return f"{num_bytes / power:.3g} {unit}"
    return f"{num_bytes:.0f} B"


def _view(report: ReportData) -> dict[str, Any]:
    """Return what the template needs beyond the data itself."""
    before = incumbent(report.scores)
    rules = report.decision.rules
    # all suites of a kind have one unit: see RunSpec
    measures = dict.fromkeys(("gain", "forgetting"), report.scores.measure)
    for suite in report.scores.suites:
        kinds = ("gain", "absolute") if suite.kind == "domain" else ("forgetting", "absolute, general")
        measures |= dict.fromkeys(kinds, report.scores.measure_of(suite))
    domain = {suite.name for suite in report.scores.suites if suite.kind == "domain"}
    groups: dict[str, list[RuleOutcome]] = {kind: [] for kind in measures}
    for rule in rules:
        general = rule.rule == "absolute" and rule.suite not in domain
        groups["absolute, general" if general else rule.rule].append(rule)
    shown, hidden = _ledger_rows(report.ledger)
    return {
        "pictures": pictures,
        "replay_curve": replay_curve,
        "over_increments": over_time.over_increments,
        "increment_lines": over_time.increment_lines(report.increments) if report.increments else {},
        "suite_colours": over_time.suite_colours(report.increments) if report.increments else {},
        "loss_of": attrgetter("loss"),
        "learning_rate_of": attrgetter("learning_rate"),
        "grad_norm_of": attrgetter("grad_norm"),
        "before": before,
        "who": models_scored(report.scores),
        "columns": score_columns(report.scores),
        "measure": report.scores.measure,
        "called": report.scores.called,
        "yardsticks": YARDSTICKS,
        "label_rows": _label_rows(report, before),
        "method": method_told.told(report.method),
        "long": method_told.LONG,
        "rule_groups": {
            kind: (found, pictures.forest_scale(found, measures[kind]), measures[kind])
            for kind, found in groups.items()
            if found
        },
        "mixed": len({measures[kind] for kind, found in groups.items() if found}) > 1,
        "counted": [suite for suite in report.scores.suites if not isinstance(suite, SuiteScores)],
        "measured": [suite for suite in report.scores.suites if isinstance(suite, SuiteScores)],
        "domain_suites": [suite for suite in report.scores.suites if suite.kind == "domain"],
        "worst": max(groups["forgetting"], key=lambda rule: rule.estimate - rule.threshold, default=None),
        "changes": {suite.name: _improved(suite, before) for suite in report.scores.suites} if before else {},
        "ledger_rows": shown,
        "ledger_hidden": hidden,
        "reasons": _reasons(report.ledger),
        "spec_yaml": spec_yaml(report.spec),
        "base_name": report.lineage.base_name or base_name(report.spec),
        "total_seconds": sum(report.seconds.values()),
        "longest_seconds": max(report.seconds.values(), default=0.0),
        "samples": [Sample(*sample) for sample in report.samples],
    }


def _improved(suite: AnySuite, before: Who) -> tuple[int, ...]:
    """Return (documents with a lower loss than before, documents); with a head, see `pictures.right_counts`."""
    if isinstance(suite, SuiteScores):
        return sum(item.nats["candidate"] < item.nats[before] for item in suite.items), len(suite.items)
    return pictures.right_counts(suite, before)


def _label_rows(report: ReportData, before: Who | None) -> list[tuple[str, int, int, float, float]]:
    """Return (label, training rows, scored texts, F1 before, F1 now) in the domain suites, the worst first."""
    rows = []
    for suite in report.scores.suites:
        if before is None or suite.kind != "domain" or not isinstance(suite, LabelSuite):
            continue
        task = suite.name if isinstance(report.spec.objective, MultiTask) else None
        old, new = suite.label_f1(before), suite.label_f1("candidate")
        for label in new:
            name = output_name(task, label)
            row = (name, report.labels.get(name, 0), new[label][0], old[label][1], new[label][1])
            rows.append(row)
    return sorted(rows, key=lambda row: (row[4], row[0]))


def _ledger_rows(ledger: Ledger) -> tuple[list[FileLedger], int]:
    """Return the files to show, those that lost most rows first if there are too many, and how many are left out."""
    files = list(ledger.files)
    if len(files) > _MOST_FILES:
        files.sort(key=lambda file: (-file.quarantined, -file.leaked, -file.read))
    return files[:_MOST_FILES], max(0, len(files) - _MOST_FILES)


def _reasons(ledger: Ledger) -> list[tuple[str, int]]:
    """Return the quarantined rows by reason over all files, most frequent first."""
    counts: dict[str, int] = {}
    for file in ledger.files:
        for reason, number in file.reasons.items():
            counts[reason] = counts.get(reason, 0) + number
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
