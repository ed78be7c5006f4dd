"""Every contract that ships keeps good data of its kind and stops broken data, through the command that a user runs."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from data_contracts.contract import list_contracts
from flows.cli.main import app
from tests.toy_heads import labelled_rows, tagged_rows, write_labelled, write_tagged

Write = Callable[[Path], list[Path]]


def _rows(file: Path, rows: list[dict[str, Any]]) -> Path:
    return write_labelled(file, rows)


def _texts(folder: Path) -> list[Path]:
    (folder / "lines.txt").write_text("".join(f"A line of the {n}th day. 第{n}天。\n" for n in range(30)))
    return [
        folder / "lines.txt",
        _rows(folder / "texts.jsonl", [{"text": f"Passage {n}."} for n in range(30)]),
    ]


def _instructions(folder: Path) -> list[Path]:
    """The layouts in the wild, one file each."""
    numbers = range(30)
    alpaca = [{"instruction": f"Name {n}.", "input": "", "output": f"It is {n}."} for n in numbers]
    gsm8k = [{"question": f"What is {n} + 1?", "answer": f"#### {n + 1}"} for n in numbers]
    plain = [{"prompt": f"问题{n}", "response": f"回答{n}"} for n in numbers]
    table = folder / "dolly.csv"
    table.write_text("instruction,context,response\n" + "".join(f"ask {n},,say {n}\n" for n in numbers))
    return [
        _rows(folder / "alpaca.jsonl", alpaca),
        _rows(folder / "gsm8k.jsonl", gsm8k),
        _rows(folder / "plain.jsonl", plain),
        table,
    ]


def _tagged(folder: Path) -> list[Path]:
    rows = [{"tokens": words, "tags": tags} for words, tags in tagged_rows(40)]
    return [write_tagged(folder / "names.conll", tagged_rows(40)), _rows(folder / "names.jsonl", rows)]


GOOD: dict[str, Write] = {
    "domain_text": _texts,
    "general_text": _texts,
    "instruction": _instructions,
    "labeled_text": lambda folder: [write_labelled(folder / "trades.jsonl", labelled_rows(40))],
    "tagged_tokens": _tagged,
}
BROKEN: dict[str, tuple[str, Callable[[int], dict[str, Any]]]] = {
    "domain_text": ("text_decoded", lambda n: {"text": f"caf\ufffd {n}"}),
    "general_text": ("text_not_html", lambda n: {"text": f"<html ><body >{n}"}),
    "instruction": ("response_no_placeholder", lambda n: {"prompt": f"ask {n}", "response": "<nooutput>"}),
    "labeled_text": ("label_short", lambda n: {"text": f"ham {n}", "label": f"{n} " + "a whole text " * 9}),
    "tagged_tokens": ("tags_some_entity", lambda n: {"tokens": ["a", str(n)], "tags": ["O", "O"]}),
}
"""Contract -> the rule that breaks, and row n of such data."""


def run_check(contract: str, file: Path) -> tuple[int, str]:
    """`rootstock check` in this process: loading Great Expectations anew for each file takes ten seconds."""
    done = CliRunner().invoke(app, ["check", contract, "--data", str(file)], catch_exceptions=False)
    return done.exit_code, done.stdout


def test_every_bundled_contract_has_a_row_in_these_tables() -> None:
    assert set(GOOD) == set(BROKEN) == set(list_contracts())


@pytest.mark.parametrize("contract", list_contracts())
def test_check_passes_good_data_of_its_kind_and_stops_broken_data(contract: str, tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    for file in GOOD[contract](tmp_path / "good"):
        code, out = run_check(contract, file)
        assert code == 0, (file.name, out)
        assert "passed on" in out.splitlines()[-1]
    rule, row = BROKEN[contract]
    bad = _rows(tmp_path / "bad.jsonl", [row(n) for n in range(40)])
    code, out = run_check(contract, bad)
    assert code == 1, out
    failed = [line.split()[1] for line in out.splitlines() if line.startswith(("FAIL", "WARN"))]
    assert failed == [f"{contract}.{rule}"]


@pytest.mark.parametrize("contract", list_contracts())
def test_check_names_the_rows_that_are_of_another_kind(contract: str, tmp_path: Path) -> None:
    """Rows that have nothing of this record, among good ones, are refused at their lines."""
    (tmp_path / "good").mkdir()
    file = next(f for f in GOOD[contract](tmp_path / "good") if f.suffix == ".jsonl")
    with file.open("a") as out:
        out.write(json.dumps({"body": "nothing that is asked for"}) + "\n")
    lines = len(file.read_text().splitlines())
    code, out = run_check(contract, file)
    assert code == 1, out
    assert f"{file}:{lines}" in out


@pytest.mark.skipif("ROOTSTOCK_DATA" not in os.environ, reason="ROOTSTOCK_DATA is not set")
def test_a_file_of_instructions_in_the_wild_passes() -> None:
    file = Path(os.environ["ROOTSTOCK_DATA"]) / "cases/data/instruction.jsonl"
    assert run_check("instruction", file)[0] == 0
