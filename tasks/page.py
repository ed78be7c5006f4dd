"""What Prefect's page shows of a run: tables, the verdict, a link to the report, and progress bars.

Artifacts of one kind form one series per specification name, so that the page shows how they change from run to run.
"""

import contextvars
import os
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from schemas.results.artifacts import (
    Decision,
    FileLedger,
    GateReport,
    Ledger,
    RuleOutcome,
    RuleResult,
)
from schemas.results.scores import AnySuite, Scores, Who
from tasks.data.prepare import Tokenized
from tasks.release.pages.markdown import code, commands, inline

MAX_ROWS = 200
"""Rows of a table that a page still shows well."""
SECONDS_BETWEEN_UPDATES = 2.0
SECONDS_TO_ARRIVE = 5.0
DRAWING = threading.Lock()
WHO: tuple[Who, ...] = ("base", "champion", "candidate")
NOT_SERVED = (
    " Browsers do not follow links from a web page to a file: open it yourself, or use `rootstock serve`, which shows"
    " reports in the browser."
)
BROKEN = {"critical": "FAIL", "warning": "warn", "info": "note"}
ORDER = (*BROKEN.values(), "pass")


def artifact_key(name: str, what: str) -> str:
    """One series of artifacts per name; Prefect allows lower case, digits and dashes."""
    return f"{re.sub('[^a-z0-9]+', '-', name.lower()).strip('-')}-{what}"


def put(create: Callable[..., Any], **fields: Any) -> None:
    """Show an artifact; a server that is away for longer than Prefect's client asks costs the artifact, not the run."""
    with suppress(httpx.HTTPError):
        create(**fields)


def show_table(rows: list[dict[str, Any]], key: str, description: str) -> None:
    """A table artifact. Prefect's page reads every cell that is text as Markdown; `description` is Markdown too."""
    literal = [
        {name: inline(value) if isinstance(value, str) else value for name, value in row.items()}
        for row in rows
    ]
    put(create_table_artifact, table=literal, key=key, description=description)


def show_ledger(name: str, ledger: Ledger) -> None:
    """Table of where every row went: all files together, then each."""
    rows = [_ledger_row(file) for file in (ledger.total, *ledger.files[: MAX_ROWS - 1])]
    more = len(ledger.files) - MAX_ROWS + 1
    show_table(
        rows,
        key=artifact_key(name, "ledger"),
        description="**Where every row went.** read = accepted + quarantined + duplicate + leaked + held out, in every line."
        + (f" {more:,} more files are in ledger.json." if more > 0 else ""),
    )


def _ledger_row(file: FileLedger) -> dict[str, Any]:
    reasons = ", ".join(f"{code}: {count:,}" for code, count in sorted(file.reasons.items()))
    return {
        "file": file.file if file.file != "all" else "all files",
        "role": file.role.replace("_", " ") if file.file != "all" else "",
        "read": file.read, "accepted": file.accepted, "quarantined": file.quarantined, "duplicate": file.duplicate,
        "leaked": file.leaked, "held out": file.held_out, "why quarantined": reasons,
    }  # fmt: skip


def show_contracts(name: str, reports: tuple[GateReport, ...]) -> None:
    """Table of every rule of every contract, broken ones first; places, never content."""
    rows = [contract_row(report, rule) for report in reports for rule in report.rules]
    broken = sum(not report.passed for report in reports)
    said = (
        f"{broken} of {len(reports)} contracts are **broken**: nothing is trained."
        if broken
        else "Every contract is kept."
    )
    show_table(
        sorted(rows, key=lambda row: ORDER.index(row["result"]))[:MAX_ROWS],
        key=artifact_key(name, "contracts"),
        description=f"**Data contracts.** {said}",
    )


def contract_row(report: GateReport, rule: RuleResult) -> dict[str, Any]:
    """One rule of one contract as a row of a table."""
    return {
        "result": "pass" if rule.success else BROKEN[rule.severity],
        "severity": rule.severity,
        "contract": f"{report.contract} {report.version}",
        "data": report.dataset,
        "rule": rule.rule,
        "what it asks": rule.description,
        "rows that break it": rule.unexpected,
        "rows checked": rule.checked,
        "first places": ", ".join(rule.places[:3]),
    }


def show_mixture(name: str, tokenized: Tokenized) -> None:
    """Table of the mixture as asked and as laid out, in label tokens."""
    mixture = tokenized.mixture
    total = mixture.domain_tokens + mixture.replay_tokens
    rows = [
        {
            "part": "domain", "tokens": mixture.domain_tokens, "share": f"{mixture.domain_tokens / total:.2%}",
            "passes over the text": round(mixture.domain_epochs, 2),
        },
        *(
            {
                "part": f"replay: {share.path}", "tokens": share.trained_tokens,
                "share": f"{share.trained_tokens / total:.2%}", "passes over the text": round(share.epochs, 2),
            }
            for share in mixture.replay
        ),
    ]  # fmt: skip
    show_table(
        rows,
        key=artifact_key(name, "mixture"),
        description=f"**Training mixture.** Replay ratio {mixture.achieved_ratio:.4f} of all trained tokens (asked:"
        f" {mixture.requested_ratio:g}); {mixture.steps:,} steps of {mixture.sequences_per_step} sequences of"
        f" {mixture.sequence_length:,} tokens, {mixture.fill_ratio:.1%} full.",
    )


def show_scores(name: str, scores: Scores) -> None:
    """Table of every suite under every model that was scored."""
    show_table(
        [_suite_row(scores, suite) for suite in scores.suites],
        key=artifact_key(name, "suites"),
        description="**Loss in nats per token** (lower is better), on documents that were never trained on. The domain"
        " should fall; general suites must not rise. *unigram* is what word frequencies alone would reach."
        if not scores.measure.higher_is_better
        else "**Share of right answers** (higher is better), on prompts that were never trained on; of running text the"
        " **loss in nats per token** (lower is better). *floor* is what always giving one answer would reach, *unigram*"
        " what word frequencies alone would."
        if scores.unit == "exact match"
        else f"**{scores.unit}** (higher is better), on rows that were never trained on. The domain should rise; general"
        " suites must not fall. *floor* is what always giving one answer would reach.",
    )


def _suite_row(scores: Scores, suite: AnySuite) -> dict[str, Any]:
    known = [who for who in WHO if who in suite.items[0].models]
    value = {who: scores.value(suite, who) for who in known}
    row: dict[str, Any] = {"suite": suite.name, "kind": suite.kind, "documents": len(suite.items)}
    row |= {scores.called(who): f"{value[who]:.4f}" for who in known}
    if "candidate" in known and "base" in known:
        row["change"] = f"{value['candidate'] - value['base']:+.4f}"
    shown = suite.shown(known[-1], "nats per token") if not suite.is_counted else {}
    row |= {title: f"{shown[title]:.4f}" for title in ("bits per byte",) if title in shown}
    return {**row, suite.floor_title: f"{suite.floor:.4f}"}


def show_verdict(name: str, run: str, folder: Path, decision: Decision) -> None:
    """The verdict with every rule, and a link to the report (through `rootstock serve`, where it runs)."""
    report = (folder / "report.html").absolute()
    put(
        create_markdown_artifact,
        markdown=verdict_markdown(run, report, decision),
        key=artifact_key(name, "verdict"),
        description=f"Verdict on {code(run)}: **{decision.verdict}**",
    )
    reports = os.environ.get("ROOTSTOCK_REPORTS")
    put(
        create_link_artifact,
        link=report_link(run, report),
        link_text=f"Report of {run}",
        key=artifact_key(name, "report"),
        description=f"The file is {code(report)}." + ("" if reports else NOT_SERVED),
    )


def report_link(run: str, report: Path) -> str:
    """Address of a report: through `rootstock serve` where it runs, else of the file."""
    reports = os.environ.get("ROOTSTOCK_REPORTS")
    return f"{reports}/{run}/report.html" if reports else report.as_uri()


def verdict_markdown(run: str, report: Path, decision: Decision) -> str:
    """The verdict as a page: sentence, a table of the rules, what to do next, where the report lies."""
    reasons = [f"- {inline(rule.reason)}" for rule in decision.rules if len(decision.rules) > 1]
    lines = [
        inline(decision.sentence), "",
        "| rule | suite | against | estimate | interval | threshold | outcome |",
        "|---|---|---|---:|---:|---:|---|",
        *(_rule_line(rule) for rule in decision.rules), "",
        *reasons, "",
        f"**Next:** {commands(decision.next_action)}", "",
        f"Run {code(run)}, report {code(report)}",
    ]  # fmt: skip
    return "\n".join(lines)


def _rule_line(rule: RuleOutcome) -> str:
    limit = "less than" if rule.rule == "forgetting" else "more than"
    cells = (
        rule.rule, inline(rule.suite), inline(rule.against), f"{rule.estimate:+.4f}", f"{rule.low:+.4f} to {rule.high:+.4f}",
        f"{limit} {rule.threshold:g}", f"**{rule.outcome}**",
    )  # fmt: skip
    return "| " + " | ".join(cells) + " |"


class Bar:
    """A progress bar on the page, drawn by a thread of its own: the work never waits for the server, not even once.

    What the thread has not yet drawn is replaced by what is newer.
    """

    def __init__(self, key: str):
        self.key = key
        self.id: UUID | None = None
        self.updated = 0.0
        self.newest: tuple[float, str] | None = None
        self.context = contextvars.copy_context()
        """Of the run: Prefect finds in it whose artifact this is."""
        self.drawing: threading.Thread | None = None

    def show(self, done: int, total: int, text: str) -> None:
        """Draw `done` of `total`, at most every two seconds, the end always."""
        now = time.monotonic()
        if now - self.updated < SECONDS_BETWEEN_UPDATES and done < total:
            return
        self.updated = now
        with DRAWING:
            self.newest = (100.0 * done / max(total, 1), text)
            if self.drawing is None:
                self.drawing = threading.Thread(
                    target=self.context.copy().run, args=(self._draw,), daemon=True
                )
                self.drawing.start()

    def close(self) -> None:
        """Give what was shown last a moment to arrive; without a server it is given up."""
        thread = self.drawing
        if thread is not None:
            thread.join(SECONDS_TO_ARRIVE)

    def _draw(self) -> None:
        while (drawn := self._take()) is not None:
            percent, text = drawn
            with suppress(
                httpx.HTTPError, RuntimeError
            ):  # it is away, or the client was closed with its task
                if self.id is None:
                    created = create_progress_artifact(progress=percent, key=self.key, description=text)
                    assert isinstance(created, UUID)
                    self.id = created
                else:
                    update_progress_artifact(self.id, progress=percent, description=text)

    def _take(self) -> tuple[float, str] | None:
        with DRAWING:
            newest, self.newest = self.newest, None
            if newest is None:
                self.drawing = None
            return newest
