"""A source is read once per content, its contract stops the run, and what was refused can be read."""

import json

import pytest

from schemas.errors import ContractFailed, ExitCode, UserError
from schemas.results.artifacts import GateReport, RuleResult
from schemas.spec.sources import Source
from tasks.data.validate import sources as module
from tasks.data.validate.sources import copy_quarantine, gate_source, require_passed, validate_source
from tests.corpora import here, write_rows


def of(path, **settings) -> Source:
    return Source(path=str(path), contract="general_text", **settings)


def test_one_changed_byte_reads_the_source_again_and_an_unchanged_one_does_not(tmp_path):
    file = write_rows(tmp_path / "a.jsonl", ["one", "two"])
    first = validate_source(tmp_path / "s", of(file), "domain", 0, here)
    assert validate_source(tmp_path / "s", of(file), "domain", 0, here).validated.key == first.validated.key
    file.write_text(file.read_text().replace("one", "ono"))
    assert validate_source(tmp_path / "s", of(file), "domain", 0, here).validated.key != first.validated.key


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({"weight": 3.0}, False),
        ({"contract": "domain_text"}, False),
        ({"group": "g"}, True),
        ({"encoding": "latin-1"}, True),
    ],
)
def test_only_what_reading_uses_reads_again(tmp_path, change, again):
    file = write_rows(tmp_path / "a.jsonl", ["one", "two"])
    first = validate_source(tmp_path / "s", of(file), "domain", 0, here)
    other = validate_source(tmp_path / "s", of(file).model_copy(update=change), "domain", 0, here)
    assert (other.validated.key != first.validated.key) is again


def test_a_source_of_refused_rows_alone_is_an_error_that_names_where_the_reasons_are(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text("{broken\n{also broken\n")
    with pytest.raises(UserError, match="2 rows read, all quarantined") as error:
        validate_source(tmp_path / "s", of(file), "replay", 3, here)
    assert "replay source 3" in error.value.what
    assert error.value.where == str(file)
    folder = error.value.fix.removeprefix("see ").split("/quarantine-")[0]
    assert len(list((tmp_path / "s/data").glob(f"{folder.rsplit('/', 1)[1]}/quarantine-*.jsonl"))) == 1


def test_an_empty_file_is_named(tmp_path):
    file = tmp_path / "a.jsonl"
    file.touch()
    with pytest.raises(UserError, match="no row in domain source 0: the files are empty") as error:
        validate_source(tmp_path / "s", of(file), "domain", 0, here)
    assert error.value.where == str(file)


def test_an_empty_file_beside_others_is_in_the_ledger(tmp_path):
    write_rows(tmp_path / "a.jsonl", ["one"])
    (tmp_path / "b.jsonl").touch()
    prepared = validate_source(tmp_path / "s", of(tmp_path / "*.jsonl"), "domain", 0, here)
    assert [(ledger.read, ledger.accepted) for ledger in prepared.ledgers] == [(1, 1), (0, 0)]


def test_the_quarantine_of_all_files_is_put_together(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_text('{"text": "fine"}\n{broken\n')
    prepared = validate_source(tmp_path / "s", of(tmp_path / "*.jsonl"), "domain", 0, here)
    for _ in range(2):
        copy_quarantine(prepared, tmp_path / "quarantine.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "quarantine.jsonl").read_text().splitlines()]
    assert [(row["file"][-7:], row["line"]) for row in rows] == [("a.jsonl", 2), ("b.jsonl", 2)] * 2


def rule(severity: str, success: bool) -> RuleResult:
    return RuleResult(
        contract="c", rule=f"rule_{severity}", description="d", severity=severity, success=success,
        checked=10, unexpected=0 if success else 3, places=() if success else ("f:1", "f:2", "f:3", "f:4"),
    )  # fmt: skip


AGAIN = "rootstock check c --data d.jsonl"


def report(*rules: RuleResult) -> GateReport:
    passed = all(r.success for r in rules if r.severity == "critical")
    return GateReport(
        contract="c", version="1", dataset="d.jsonl", rows=10, passed=passed, rules=rules, again=AGAIN
    )


def test_broken_warnings_do_not_stop_a_run_and_critical_rules_do():
    require_passed([report(rule("critical", True), rule("warning", False), rule("info", False))])
    with pytest.raises(ContractFailed) as error:
        require_passed(
            [report(rule("critical", True)), report(rule("critical", False), rule("warning", False))]
        )
    assert error.value.exit_code == ExitCode.CONTRACT_FAILED == 1
    assert "d.jsonl: rule_critical (d), broken by 3 of 10 rows" in error.value.what
    assert "rule_warning" not in error.value.what
    assert error.value.where == "f:1, f:2, f:3"
    assert AGAIN in error.value.fix


@pytest.mark.slow
def test_a_changed_contract_gates_again_and_the_same_does_not(tmp_path, monkeypatch):
    write_rows(tmp_path / "a.jsonl", [f"a sentence number {n}" for n in range(12)])
    prepared = validate_source(tmp_path / "s", of(tmp_path / "a.jsonl"), "domain", 0, here)
    first = gate_source(tmp_path / "s", prepared, here)
    assert first.passed
    assert first.rows == 12
    monkeypatch.setattr(module, "run_step", lambda plan, work: plan.finished())
    assert gate_source(tmp_path / "s", prepared, here) == first
    stricter = (
        (module.load_contract("general_text").file)
        .read_text()
        .replace("mustBeGreaterOrEqualTo: 10", "mustBeGreaterOrEqualTo: 13")
    )
    (tmp_path / "strict.odcs.yaml").write_text(stricter)
    monkeypatch.undo()
    source = prepared.source.model_copy(update={"contract": str(tmp_path / "strict.odcs.yaml")})
    strict = gate_source(tmp_path / "s", module.PreparedSource("domain", 0, source, prepared.validated), here)
    assert not strict.passed
    with pytest.raises(ContractFailed, match="rows_count"):
        require_passed([strict])
