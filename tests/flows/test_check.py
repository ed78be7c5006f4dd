import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from data_contracts import gate
from data_contracts.contract import FOLDER
from flows.run.check import check, check_and_print
from schemas.errors import ExitCode, UserError, UserErrors
from schemas.results.artifacts import GateReport, RuleResult

SECRET = "zhang-4711"


def rule_of(report: GateReport, rule: str) -> RuleResult:
    return next(result for result in report.rules if result.rule == rule)


def jsonl(file: Path, texts: list[str]) -> Path:
    file.write_text(
        "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts), encoding="utf-8"
    )
    return file


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return jsonl(tmp_path / "good.jsonl", [f"Passage {n}. 第{n}段。" for n in range(30)])


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    return jsonl(
        tmp_path / "bad.jsonl",
        [f"{SECRET} {n} \ufffd" if n in (4, 7) else f"Passage {n}." for n in range(30)],
    )


def run_cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = """
import sys, time
import flows.cli.main
try:
    flows.cli.main.main()
finally:
    loaded = [name for name in ("torch", "transformers", "prefect", "mlflow") if name in sys.modules]
    print("loaded:", loaded, file=sys.stderr)
"""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=dict(os.environ)
    )


def test_good_data_exits_0_and_never_imports_torch(good: Path) -> None:
    done = run_cli("check", str(FOLDER / "domain_text.odcs.yaml"), "--data", str(good))
    assert done.returncode == 0, done.stderr
    assert "loaded: []" in done.stderr
    assert done.stdout.splitlines()[-1] == "contract domain_text 1.0.0: passed on 30 rows"


def test_bad_data_exits_1_and_names_rule_severity_and_place_but_no_text(bad: Path, tmp_path: Path) -> None:
    junit, told = tmp_path / "out" / "junit.xml", tmp_path / "report.json"
    done = run_cli(
        "check", "domain_text", "--data", str(bad), "--github", "--junit", str(junit), "--json", str(told)
    )
    assert done.returncode == 1, done.stderr
    assert (
        "FAIL  domain_text.text_decoded  critical  2 of 30 rows break it (6.7 %, 1 % allowed)" in done.stdout
    )
    assert f"      {bad}:5\n      {bad}:8\n" in done.stdout
    assert f"::error file={bad},line=5,title=domain_text.text_decoded::" in done.stdout
    assert [case.get("name") for case in ElementTree.parse(junit).iter("testcase") if len(case)] == [
        "text_decoded"
    ]
    assert rule_of(GateReport.model_validate_json(told.read_bytes()), "text_decoded").unexpected == 2
    everything = done.stdout + done.stderr + junit.read_text() + told.read_text()
    assert SECRET not in everything


def test_lint_exits_0_on_good_contracts_and_2_on_bad_ones(tmp_path: Path) -> None:
    file = tmp_path / "c.odcs.yaml"
    good = FOLDER / "domain_text.odcs.yaml"
    file.write_text(
        good.read_text().replace("severity: info", "severity: low").replace("mostly: 0.8", "mostly: 80")
    )
    assert run_cli("contract", "lint", str(good)).returncode == 0
    done = run_cli("contract", "lint", str(good), str(file))
    assert done.returncode == 2
    assert done.stderr.count("where: ") == 2


def test_an_unreadable_row_fails_the_check_at_its_line(good: Path) -> None:
    with good.open("a") as out:
        out.write('{"text": \n{"body": "x"}\n')
    report = check("domain_text", [str(good)])
    readable = rule_of(report, "rows.readable")
    assert (readable.unexpected, readable.checked, readable.severity) == (2, 32, "critical")
    assert readable.places == (f"{good}:31", f"{good}:32")
    assert "malformed_json, missing_field" in readable.description
    assert not report.passed


@pytest.mark.parametrize(("allowed", "passed"), [("0.1", True), ("0.0624", False), ("0.0625", True)])
def test_a_contract_can_tolerate_a_share_of_unreadable_rows(
    good: Path, tmp_path: Path, allowed: str, passed: bool
) -> None:
    file = tmp_path / "lax.odcs.yaml"
    file.write_text(
        (FOLDER / "domain_text.odcs.yaml").read_text().replace("    value: 0\n", f"    value: {allowed}\n")
    )
    with good.open("a") as out:
        out.write("{\n{\n")
    assert check(str(file), [str(good)]).passed is passed


def test_several_files_and_globs_are_one_dataset(tmp_path: Path) -> None:
    jsonl(tmp_path / "a.jsonl", ["a passage"] * 12)
    (tmp_path / "b.txt").write_text("a line\n" * 12)
    (tmp_path / "c.csv.gz").write_bytes(gzip.compress(b"text\n" + b"a value\n" * 12))
    assert not check("domain_text", [str(tmp_path / "a.jsonl")]).passed
    report = check("domain_text", [str(tmp_path / "*.*")])
    assert (report.passed, report.rows) == (True, 36)


def test_a_path_given_twice_counts_once(good: Path) -> None:
    assert check("domain_text", [str(good), str(good)]).rows == 30


def test_an_empty_file_breaks_the_row_count_only(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    report = check("general_text", [str(tmp_path / "empty.jsonl")])
    assert [rule.rule for rule in report.rules if not rule.success] == ["rows_count"]


def test_worker_processes_find_what_one_process_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers_for_few: None
) -> None:
    for name in "abc":
        jsonl(
            tmp_path / f"{name}.jsonl",
            [f"{name} {n} \ufffd" if n % 9 == 0 else f"passage {n}" for n in range(40)],
        )
    alone = check("domain_text", [str(tmp_path / "*.jsonl")])
    monkeypatch.setattr(gate, "TOGETHER_BYTES", 0)  # a job a file
    assert check("domain_text", [str(tmp_path / "*.jsonl")]) == alone


def test_nothing_is_left_behind(good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    check("domain_text", [str(good)])
    assert list(scratch.iterdir()) == []


def test_a_missing_file_is_told_with_place_and_remedy() -> None:
    with pytest.raises(UserError) as caught:
        check("domain_text", ["no/such/file.jsonl"])
    assert (caught.value.what, caught.value.where) == ("no file matches", "no/such/file.jsonl")
    assert "name an existing file" in caught.value.fix


def test_an_unknown_contract_is_told_before_any_data_is_read() -> None:
    with pytest.raises(UserErrors, match="there is no contract 'domain'"):
        check("domain", ["no/such/file.jsonl"])


def test_a_report_that_cannot_be_written_is_told(good: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        check_and_print("domain_text", [str(good)], junit=tmp_path)
    assert caught.value.what.startswith("cannot write the report")
    assert caught.value.where == str(tmp_path)
    assert caught.value.exit_code == ExitCode.BAD_SPECIFICATION


@pytest.mark.skipif("ROOTSTOCK_DATA" not in os.environ, reason="ROOTSTOCK_DATA is not set")
@pytest.mark.parametrize(
    ("name", "passed"),
    [
        ("data/general_en/wikitext2_valid.txt", True),
        ("data/general_en/tinyshakespeare.txt", True),
        ("data/general_en/ntrex_src_eng.txt", True),
        ("data/general_zh/ntrex_zho-CN.txt", True),
        ("data/classification/sentence_polarity_rt-polarity.neg.part.txt", True),
        ("data/dirty/blns.txt", False),
    ],
)
def test_real_text_passes_and_naughty_strings_do_not(name: str, passed: bool) -> None:
    report = check("general_text", [f"{os.environ['ROOTSTOCK_DATA']}/{name}"])
    assert report.passed is passed, [rule.rule for rule in report.rules if not rule.success]


@pytest.mark.skipif("ROOTSTOCK_DATA" not in os.environ, reason="ROOTSTOCK_DATA is not set")
def test_a_git_lfs_pointer_in_place_of_data_does_not_pass() -> None:
    with pytest.raises(UserError):
        assert check(
            "domain_text", [f"{os.environ['ROOTSTOCK_DATA']}/data/dirty/lfs_pointer_instead_of_data.jsonl.gz"]
        ).passed


def test_the_language_reference_that_ships_with_python_passes(tmp_path: Path) -> None:
    from pydoc_data.topics import topics

    assert check("domain_text", [str(jsonl(tmp_path / "python.jsonl", list(topics.values())))]).passed


def test_a_number_of_too_many_digits_is_a_broken_document(tmp_path: Path) -> None:
    file = tmp_path / "big.json"
    file.write_text('[{"text": "row", "n": ' + "9" * 5000 + "}" + ',{"text": "row"}' * 40 + "]")
    with pytest.raises(UserError, match="a number has too many digits"):
        check("general_text", [str(file)])


@pytest.mark.parametrize("contract", ["general_text", "labeled_text", "instruction"])
def test_a_format_that_cannot_hold_a_contracts_rows_is_refused(contract: str, tmp_path: Path) -> None:
    file = tmp_path / "c.conll"
    file.write_text("a B-X\nb I-X\n\n" * 30)
    with pytest.raises(UserError, match="a conll file does not hold"):
        check(contract, [str(file)])
