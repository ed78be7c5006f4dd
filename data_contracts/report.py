"""Show a gate's report: a table for people, lines for logs, JUnit and GitHub annotations for CI. Places, never text."""

from collections.abc import Iterator
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from schemas.results.artifacts import GateReport, RuleResult
from schemas.visible import printable, visible

if TYPE_CHECKING:
    from rich.table import Table

SHOWN_PLACES = 3
GITHUB_PLACES = 10
"""GitHub shows at most ten annotations of a kind per step."""
GITHUB_LEVEL = {"critical": "error", "warning": "warning", "info": "notice"}


def outcome(rule: RuleResult) -> str:
    """`pass`, or what breaking the rule means."""
    return "pass" if rule.success else {"critical": "FAIL", "warning": "warn", "info": "note"}[rule.severity]


def numbers(rule: RuleResult) -> str:
    """What was counted, in one phrase."""
    if rule.observed is not None:
        return f"{rule.observed:,.0f} rows"
    if rule.checked == 0:
        return "no rows to check"
    share = f"{_percent(rule.unexpected / rule.checked)}, " if rule.unexpected else ""
    return f"{rule.unexpected:,} of {rule.checked:,} rows break it ({share}{_percent(rule.allowed_ratio)} allowed)"


def _percent(ratio: float) -> str:
    return f"{ratio * 100:.2g} %" if 0 < ratio < 0.1 else f"{ratio * 100:.0f} %"


def verdict(report: GateReport) -> str:
    """The report in one sentence."""
    broken = [rule for rule in report.rules if not rule.success]
    counts = [f"{number} {name}" for name in ("critical", "warning", "info") if (number := sum(rule.severity == name for rule in broken))]  # fmt: skip
    said = "passed" if report.passed else "FAILED"
    return f"contract {visible(report.contract)} {visible(report.version)}: {said} on {report.rows:,} rows" + (f"; broken: {', '.join(counts)}" if counts else "")  # fmt: skip


def to_table(report: GateReport) -> "Table":
    """A rich table, one row per rule."""
    from rich.table import Table
    from rich.text import Text

    style = {"pass": "green", "FAIL": "bold red", "warn": "yellow", "note": "cyan"}
    table = Table(
        title=Text(printable(f"{report.dataset} against {report.contract} {report.version}")),
        title_justify="left",
    )
    for name in ("rule", "severity", "", "found", "first places"):
        table.add_column(name, overflow="fold")
    for rule in report.rules:
        said = Text(outcome(rule), style[outcome(rule)])
        places = "\n".join(rule.places[:SHOWN_PLACES])
        table.add_row(
            Text(printable(visible(rule.rule))),
            rule.severity,
            said,
            Text(numbers(rule)),
            Text(printable(places)),
        )
    return table


def to_lines(report: GateReport) -> list[str]:
    """One plain line per rule, then places of the broken ones, then the verdict."""
    lines = []
    for rule in report.rules:
        name = visible(f"{report.contract}.{rule.rule}")
        lines.append(f"{outcome(rule)}  {name}  {rule.severity}  {numbers(rule)}")
        if not rule.success:
            lines.append(f"      {visible(rule.description.strip())}")
        lines += [f"      {visible(place)}" for place in rule.places[:SHOWN_PLACES]]
    return [*lines, verdict(report)]


def to_junit(report: GateReport) -> str:
    """JUnit XML: a test case per rule. Broken warnings are reported as skipped, so that CI shows but does not fail them."""
    failures = sum(not rule.success and rule.severity == "critical" for rule in report.rules)
    skipped = sum(not rule.success and rule.severity != "critical" for rule in report.rules)
    counts = {
        "tests": str(len(report.rules)),
        "failures": str(failures),
        "skipped": str(skipped),
        "errors": "0",
    }
    suites = ElementTree.Element("testsuites", counts)
    # of the characters that XML cannot hold every one is made visible
    contract, version = visible(report.contract), visible(report.version)
    suite = ElementTree.SubElement(suites, "testsuite", {"name": f"{contract} {version}", **counts})
    for rule in report.rules:
        case = ElementTree.SubElement(suite, "testcase", {"classname": contract, "name": visible(rule.rule)})
        if not rule.success:
            kind = "failure" if rule.severity == "critical" else "skipped"
            told = ElementTree.SubElement(
                case, kind, {"message": f"{visible(rule.description.strip())}: {numbers(rule)}"}
            )
            told.text = "\n".join(map(visible, rule.places))
    ElementTree.indent(suites)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(suites, encoding="unicode") + "\n"
    )


def to_github(report: GateReport) -> list[str]:
    """Workflow commands that put each broken rule beside the line that broke it."""
    return [line for rule in report.rules if not rule.success for line in _annotations(rule)]


def _annotations(rule: RuleResult) -> Iterator[str]:
    level = GITHUB_LEVEL[rule.severity]
    title = _property(f"{rule.contract}.{rule.rule}")
    message = _data(f"{rule.contract}.{rule.rule}: {rule.description}: {numbers(rule)}")
    for place in rule.places[:GITHUB_PLACES]:
        file, _, line = place.rpartition(":")
        yield f"::{level} file={_property(file)},line={line},title={title}::{message}"
    if not rule.places:
        yield f"::{level} title={title}::{message}"


def _data(text: str) -> str:
    """GitHub's own escapes; what it has none for is made visible."""
    return visible(text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A"))


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
