"""The contracts of labelled rows hold real files to what they promise, and stop mixed-up columns."""

import json
import os
from pathlib import Path

import pytest

from data_contracts.contract import FOLDER, load_contract
from data_contracts.lint import lint
from flows.run.check import check
from tests.toy_heads import labelled_rows, tagged_rows, write_labelled, write_tagged


@pytest.fixture(scope="module")
def data_root() -> Path:
    root = os.environ.get("ROOTSTOCK_DATA")
    if not root:
        pytest.skip("ROOTSTOCK_DATA is not set: the real files are not on this machine")
    return Path(root)


def broken(report) -> set[str]:
    return {rule.rule for rule in report.rules if not rule.success}


@pytest.mark.parametrize("name", ["labeled_text", "tagged_tokens"])
def test_the_shipped_contracts_have_no_mistake_and_know_their_record(name) -> None:
    assert lint(FOLDER / f"{name}.odcs.yaml") == []
    assert load_contract(name).record == name
    assert load_contract("domain_text").record == "text"


def test_good_rows_keep_them(tmp_path: Path) -> None:
    assert check("labeled_text", [str(write_labelled(tmp_path / "a.jsonl", labelled_rows(40)))]).passed
    assert check("tagged_tokens", [str(write_tagged(tmp_path / "a.conll", tagged_rows(40)))]).passed


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda row: {"text": row["label"], "label": row["text"] * 9}, "label_short"),
        (lambda row: {**row, "label": "nan"}, "label_no_placeholder"),
        (lambda row: {**row, "label": "two\nlines"}, "label_one_line"),
        (lambda row: {**row, "text": "caf\ufffd"}, "text_decoded"),
    ],
)
def test_what_is_no_label_or_no_text_breaks_its_rule(tmp_path: Path, change, rule) -> None:
    file = write_labelled(tmp_path / "a.jsonl", [change(row) for row in labelled_rows(40)])
    report = check("labeled_text", [str(file)])
    assert rule in broken(report)
    assert not report.passed


def test_a_column_without_entities_breaks_the_rule_about_them(tmp_path: Path) -> None:
    file = write_tagged(tmp_path / "a.conll", [(words, ["O"] * len(words)) for words, _ in tagged_rows(40)])
    report = check("tagged_tokens", [str(file)])
    assert broken(report) == {"tags_some_entity"}


def test_unreadable_rows_break_the_check(tmp_path: Path) -> None:
    file = write_labelled(tmp_path / "a.jsonl", labelled_rows(40))
    with file.open("a") as out:
        out.write(json.dumps({"text": "no label"}) + "\n")
    report = check("labeled_text", [str(file)])
    assert broken(report) == {"rows.readable"}
    assert report.rules[0].places == (f"{file}:41",)


def test_a_contract_cannot_speak_of_label_and_tags(tmp_path: Path) -> None:
    text = (FOLDER / "labeled_text.odcs.yaml").read_text()
    file = tmp_path / "both.odcs.yaml"
    file.write_text(
        text.replace(
            "      - name: label\n", "      - name: tags\n        logicalType: string\n      - name: label\n"
        )
    )
    assert [error.what for error in lint(file)] == ["no row has both label and tags"]


@pytest.mark.parametrize("name", ["wnut17train_1-2200.conll", "uner_zh_gsdsimp_dev.iob2"])
def test_real_tagged_files_keep_the_contract(data_root: Path, name) -> None:
    assert check("tagged_tokens", [str(data_root / "data/ner" / name)]).passed
