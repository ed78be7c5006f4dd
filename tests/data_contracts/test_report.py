import io
from xml.etree import ElementTree

import pytest
from rich.console import Console

from data_contracts.report import to_github, to_junit, to_lines, to_table, verdict
from schemas.results.artifacts import GateReport, RuleResult


@pytest.fixture
def report() -> GateReport:
    def rule(name: str, **found: object) -> RuleResult:
        known = {
            "contract": "c",
            "rule": name,
            "description": f"100 % {name}",
            "severity": "critical",
            "success": True,
        }
        return RuleResult.model_validate({**known, "checked": 1000, "unexpected": 0, **found})

    rules = (
        rule("rows_count", observed=1000.0),
        rule("kept"),
        rule(
            "broken",
            success=False,
            unexpected=21,
            places=tuple(f"data/a,b:[x].txt:{n}" for n in range(1, 21)),
        ),
        rule("doubtful", severity="warning", success=False, unexpected=900, allowed_ratio=0.05),
    )
    return GateReport(
        contract="c", version="1.2.3", dataset="data/*.txt", rows=1000, passed=False, rules=rules
    )


def test_plain_lines_name_rule_severity_count_and_place(report: GateReport) -> None:
    lines = to_lines(report)
    assert "FAIL  c.broken  critical  21 of 1,000 rows break it (2.1 %, 0 % allowed)" in lines
    assert "      data/a,b:[x].txt:1" in lines
    assert "warn  c.doubtful  warning  900 of 1,000 rows break it (90 %, 5 % allowed)" in lines
    assert (
        lines[-1]
        == verdict(report)
        == "contract c 1.2.3: FAILED on 1,000 rows; broken: 1 critical, 1 warning"
    )


def test_the_table_shows_every_rule_and_reads_no_markup_in_names(report: GateReport) -> None:
    out = io.StringIO()
    Console(file=out, width=140).print(to_table(report))
    shown = out.getvalue()
    assert all(rule.rule in shown for rule in report.rules)
    assert "a,b:[x].txt:1" in shown


def test_junit_has_a_case_per_rule_and_fails_only_critical_ones(report: GateReport) -> None:
    root = ElementTree.fromstring(to_junit(report))
    cases = {case.get("name"): [child.tag for child in case] for case in root.iter("testcase")}
    assert cases == {"rows_count": [], "kept": [], "broken": ["failure"], "doubtful": ["skipped"]}
    assert (root.get("tests"), root.get("failures"), root.get("skipped")) == ("4", "1", "1")
    assert next(root.iter("failure")).text.splitlines()[0] == "data/a,b:[x].txt:1"


def test_github_annotations_escape_what_would_end_them_early(report: GateReport) -> None:
    lines = to_github(report)
    assert len(lines) == 11
    assert lines[0] == (
        "::error file=data/a%2Cb%3A[x].txt,line=1,title=c.broken::"
        "c.broken: 100 %25 broken: 21 of 1,000 rows break it (2.1 %25, 0 %25 allowed)"
    )
    assert lines[-1].startswith("::warning title=c.doubtful::")
