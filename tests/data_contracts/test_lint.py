import importlib.resources
import json
from pathlib import Path

import jsonschema
import pytest

from data_contracts.contract import FOLDER, list_contracts
from data_contracts.lint import lint
from schemas.errors import UserError
from schemas.reading.yaml_reader import read_yaml

GOOD = (FOLDER / "domain_text.odcs.yaml").read_text(encoding="utf-8")

# mistake: (text in the good contract, what replaces it, what, line's text, fix)
MISTAKES = {
    "unknown key": ("status: active", "statsu: active", "statsu is not a key of a contract", "did you mean status?"),
    "unknown nested key": ("required: true", "requird: true", "requird is not a key of schema.0.properties.0", "did you mean required?"),
    "missing key": ("version: 1.0.0\n", "", "version is missing", "add `version: ...`"),
    "wrong type": ("required: true", "required: 'yes'", "schema.0.properties.0.required has the wrong type", "true or false"),
    "not a contract": ("kind: DataContract", "kind: Contract", "kind cannot be 'Contract'", "DataContract"),
    "another standard": ("apiVersion: v3.1.0", "apiVersion: v2.2.0", "apiVersion cannot be 'v2.2.0'", "v3.1.0"),
    "unknown column": ("      - name: text\n", "      - name: txet\n", "rows have no column 'txet'", "did you mean text?"),
    "column of numbers": ("logicalType: string", "logicalType: number", "text cannot have logicalType 'number'", "logicalType: string"),
    "unchecked promise": ("required: true", "unique: true", "unique on text is checked by nothing", "duplicate step"),
    "unknown rule type": ("type: expect_column_values_to_match_regex", "type: expect_column_values_to_match_regexp", "there is no rule type 'expect_column_values_to_match_regexp'", "did you mean expect_column_values_to_match_regex?"),
    "uniqueness": ("type: expect_column_values_to_match_regex", "type: expect_column_values_to_be_unique", "there is no rule type 'expect_column_values_to_be_unique'", "duplicate step"),
    "unknown setting": ("min_value: 5", "min_valu: 5", "min_valu is not a setting of expect_column_value_lengths_to_be_between", "did you mean min_value?"),
    "setting of the wrong type": ("min_value: 5", "min_value: five", "min_value has the wrong type", "a whole number"),
    "tolerance above one": ("mostly: 0.8", "mostly: 80", "mostly is 80", "at most 1"),
    "no bound": ("{min_value: 5, mostly: 0.8}", "{mostly: 0.8}", "expect_column_value_lengths_to_be_between checks nothing", "min_value or max_value"),
    "crossed bounds": ("{min_value: 5,", "{min_value: 5, max_value: 4,", "no number is at least 5 and at most 4", "swap"),
    "bad regex": ("'^version https://git-lfs'", "'(unclosed'", "not a regular expression RE2 can run: missing ), unterminated subpattern", "RE2"),
    "look-around": ("'^version https://git-lfs'", "'(?=a)b'", "not a regular expression RE2 can run", "no look-around"),
    "unknown severity": ("severity: info", "severity: inf", "severity cannot be 'inf'", "did you mean info?"),
    "no severity": ("            severity: info\n", "", "the rule 'text_not_long': severity is missing", "add `severity: ...`"),
    "unknown engine": ("engine: greatExpectations", "engine: soda", "the engine 'soda' is not run here", "greatExpectations"),
    "unknown metric": ("metric: rowCount", "metric: rowCounts", "cannot be 'rowCounts'", "did you mean rowCount?"),
    "metric done elsewhere": ("metric: rowCount", "metric: duplicateValues", "the metric duplicateValues is not run here", "duplicate step"),
    "count of half a row": ("mustBeGreaterOrEqualTo: 20", "mustBeGreaterOrEqualTo: 20.5", "mustBeGreaterOrEqualTo is not a count of rows", "mustBeGreaterOrEqualTo: 20"),
    "percent of rows": ("metric: rowCount", "metric: rowCount\n        unit: percent", "unit 'percent' is not a count of rows", "unit: rows"),
    "dead key of a rule": ("metric: rowCount", "metric: rowCount\n        schedule: daily", "schedule has no effect here", "remove it"),
    "rule that is never run": ("type: library\n        metric: rowCount\n        mustBeGreaterOrEqualTo: 20", "type: text", "type 'text' is never run", "type: custom"),
    "repeated id": ("id: text_not_long", "id: text_not_huge", "the rule id 'text_not_huge' is given twice", "the first is at"),
    "unstable id": ("id: text_not_long", "id: text not long", "schema.0.properties.0.quality.2.id cannot be 'text not long'", "A-Za-z0-9"),
    "unknown custom property": ("maxQuarantinedRatio", "maxQuarantineRatio", "the custom property maxQuarantineRatio has no effect", "did you mean maxQuarantinedRatio?"),
    "ratio above one": ("    value: 0\n", "    value: 5\n", "maxQuarantinedRatio is not a share of rows", "from 0 to 1"),
    "two datasets": ("customProperties:", "  - {name: b}\ncustomProperties:", "schema must describe exactly one dataset", "one `- name: ...`"),
    "repeated key": ("status: active", "status: active\nstatus: draft", "status is given twice", "keep one"),
    "tab for indentation": ("status: active", "status: active\n\tname: x", "not valid YAML", "indent with spaces"),
}  # fmt: skip


def errors_of(tmp_path: Path, text: str) -> list[UserError]:
    file = tmp_path / "c.odcs.yaml"
    file.write_text(text, encoding="utf-8")
    return lint(file)


@pytest.mark.parametrize("name", list_contracts())
def test_a_shipped_contract_is_in_order(name: str) -> None:
    assert lint(list_contracts()[name]) == []


@pytest.mark.parametrize("name", list_contracts())
def test_a_shipped_contract_is_valid_under_the_standards_own_schema(name: str) -> None:
    schema = json.loads(
        importlib.resources.files("open_data_contract_standard").joinpath("schema.json").read_text()
    )
    jsonschema.Draft201909Validator(schema).validate(read_yaml(list_contracts()[name]).value)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_with_its_line_and_remedy(tmp_path: Path, mistake: str) -> None:
    good, bad, what, fix = MISTAKES[mistake]
    assert good in GOOD
    text = GOOD.replace(good, bad, 1)
    line = next(
        n for n, (a, b) in enumerate(zip(text.splitlines(), GOOD.splitlines(), strict=False), 1) if a != b
    )

    errors = errors_of(tmp_path, text)

    told = [error for error in errors if what in error.what]
    assert told, [str(error) for error in errors]
    assert fix in told[0].fix
    file, _, number = told[0].where.rpartition(":")
    assert file == str(tmp_path / "c.odcs.yaml")
    exact = mistake not in (
        "missing key",
        "no severity",
        "no bound",
        "crossed bounds",
        "rule that is never run",
    )
    assert abs(int(number) - line) <= (1 if exact else 15)


def test_all_mistakes_are_told_at_once_in_the_order_of_lines(tmp_path: Path) -> None:
    text = GOOD.replace("severity: info", "severity: inf").replace("mostly: 0.8", "mostly: 8").replace("status: active", "state: active")  # fmt: skip
    lines = [int(error.where.rpartition(":")[2]) for error in errors_of(tmp_path, text)]
    assert len(lines) >= 4
    assert lines == sorted(lines)


def test_a_missing_file_is_one_error() -> None:
    (error,) = lint(Path("no/such.odcs.yaml"))
    assert error.where == "no/such.odcs.yaml"


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words\n", "schema: {a: 1}\n", "schema: [1, [2]]\n", "schema:\n- properties: 3\n  quality: x\n"])  # fmt: skip
def test_a_file_of_another_shape_is_refused_without_a_traceback(tmp_path: Path, text: str) -> None:
    assert errors_of(tmp_path, text)


@pytest.mark.parametrize(
    ("operator", "bounds"),
    [
        ("mustBe: 7", {"min_value": 7, "max_value": 7}),
        ("mustBeGreaterThan: 7", {"min_value": 8}),
        ("mustBeGreaterOrEqualTo: 7", {"min_value": 7}),
        ("mustBeLessThan: 7", {"max_value": 6}),
        ("mustBeLessOrEqualTo: 7", {"max_value": 7}),
        ("mustBeBetween: [7, 9]", {"min_value": 7, "max_value": 9}),
    ],
)
def test_every_operator_of_the_standard_bounds_the_row_count(
    tmp_path: Path, operator: str, bounds: dict[str, int]
) -> None:
    from data_contracts.contract import load_contract

    file = tmp_path / "c.odcs.yaml"
    file.write_text(GOOD.replace("mustBeGreaterOrEqualTo: 20", operator), encoding="utf-8")
    assert load_contract(file).rules[0].kwargs == bounds
