"""The run's report: one HTML file that shows what happened, opens anywhere and loads nothing from elsewhere."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from schemas.results.artifacts import (
    Decision,
    FileLedger,
    GateReport,
    Ledger,
    Lineage,
    MixtureReport,
    RuleOutcome,
    StepMetrics,
)
from schemas.results.counts import Latency, Parameters
from schemas.results.replay_choice import ReplayChoice
from schemas.results.scores import YARDSTICKS, Scores
from schemas.spec.run import RunSpec
from tasks.evaluation.comparison.continual import Continual
from tasks.release.pages import method_told, over_time, pictures
from tasks.release.pages.replay_picture import replay_curve
from tasks.release.pages.shown_scores import incumbent, label_rows, models_scored, score_columns
from tasks.release.pages.templates import html_templates
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
        "label_rows": label_rows(report.scores, report.labels, bool(report.spec.objective.task_names)),
        "method": method_told.told(report.method),
        "long": method_told.LONG,
        "rule_groups": {
            kind: (found, pictures.forest_scale(found, measures[kind]), measures[kind])
            for kind, found in groups.items()
            if found
        },
        "mixed": len({measures[kind] for kind, found in groups.items() if found}) > 1,
        "counted": [suite for suite in report.scores.suites if suite.is_counted],
        "measured": [suite for suite in report.scores.suites if not suite.is_counted],
        "domain_suites": [suite for suite in report.scores.suites if suite.kind == "domain"],
        "worst": max(groups["forgetting"], key=lambda rule: rule.estimate - rule.threshold, default=None),
        "changes": {suite.name: suite.compared(before) for suite in report.scores.suites} if before else {},
        "ledger_rows": shown,
        "ledger_hidden": hidden,
        "reasons": _reasons(report.ledger),
        "spec_yaml": spec_yaml(report.spec),
        "base_name": report.lineage.base_name or base_name(report.spec),
        "total_seconds": sum(report.seconds.values()),
        "longest_seconds": max(report.seconds.values(), default=0.0),
        "samples": [Sample(*sample) for sample in report.samples],
    }


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
