"""Files of instructions as they are found in the wild: known by their keys, or refused with what to write."""

import json
from pathlib import Path

import pytest

from schemas.errors import UserError
from schemas.spec.records import Instruction
from schemas.spec.sources import Source
from tasks.data.read.instruction_layouts import AS_GIVEN, with_layouts
from tasks.data.read.shards import plan_shards
from tasks.data.validate.sources import validate_source
from tests.corpora import here, write_rows


def read(root: Path, file: Path, **settings):
    """The validated rows (prompt, response, context), and the source."""
    import pyarrow.parquet as pq

    source = Source(path=str(file), contract="instruction", **settings)
    prepared = validate_source(root / "state", source, "domain", 0, here, "instruction")
    rows = [
        row
        for part in prepared.parts
        for row in pq.read_table(part, columns=["prompt", "response", "context"]).to_pylist()
    ]
    return [(row["prompt"], row["response"], row["context"]) for row in rows], prepared


@pytest.mark.parametrize("name", Instruction.layouts)
def test_a_layout_is_known_by_its_keys_and_named(tmp_path, name) -> None:
    keys = Instruction.layouts[name]
    rows = [{**{key: f"{field} {n}" for field, key in keys.items()}, "id": n} for n in range(5)]
    found, prepared = read(tmp_path, write_rows(tmp_path / "a.jsonl", rows))
    context = "context 3" if "context" in keys else ""
    assert found[3] == ("prompt 3", "response 3", context)
    assert prepared.layouts[str(tmp_path / "a.jsonl")].startswith(f"{name} ({keys['prompt']} as prompt")


def test_every_row_is_in_exactly_one_place_with_its_reason(tmp_path) -> None:
    good = [{"instruction": f"a{n}", "input": "", "output": "b"} for n in range(3)]
    bad = [
        ({"instruction": "a"}, "missing_field"),
        ({"instruction": " ", "output": "b"}, "empty_text"),
        ({"instruction": "a", "output": ""}, "empty_text"),
        ({"instruction": ["a"], "output": "b"}, "wrong_type"),
        ({"instruction": "a", "output": "b", "input": 3}, "wrong_type"),
        ({"instruction": "a\x00", "output": "b"}, "nul_character"),
        ({"instruction": "a", "output": "\ud800"}, "lone_surrogate"),
    ]
    file = tmp_path / "a.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in [*good, *(row for row, _ in bad)]) + "{\n")
    found, prepared = read(tmp_path, file)
    assert [row[0] for row in found] == ["a0", "a1", "a2"]
    (ledger,) = prepared.ledgers
    assert ledger.read == len(good) + len(bad) + 1 == ledger.accepted + ledger.quarantined
    lines = (prepared.validated.folder / "quarantine-00000.jsonl").read_text().splitlines()
    codes = [json.loads(line)["code"] for line in lines]
    assert codes == [*(code for _, code in bad), "malformed_json"]


def test_no_context_an_empty_one_and_none_are_the_same(tmp_path) -> None:
    rows = [
        {"instruction": "a", "output": f"{n}", **more}
        for n, more in enumerate([{}, {"input": ""}, {"input": None}])
    ]
    found, _ = read(
        tmp_path,
        write_rows(tmp_path / "a.jsonl", [*rows, *[{"instruction": "a", "output": "x", "input": "i"}] * 3]),
    )
    assert [row[2] for row in found] == ["", "", "", "i", "i", "i"]


def test_a_header_tells_the_layout_of_a_table(tmp_path) -> None:
    (tmp_path / "a.csv").write_text('id,question,answer\n1,"what, then?",this\n2,b,c\n')
    found, prepared = read(tmp_path, tmp_path / "a.csv")
    assert found == [("what, then?", "this", ""), ("b", "c", "")]
    assert "question/answer" in prepared.layouts[str(tmp_path / "a.csv")]


def test_columns_that_are_given_are_taken_and_numbers_need_no_header(tmp_path) -> None:
    (tmp_path / "a.tsv").write_text("one\t1\ntwo\t2\n")
    found, prepared = read(tmp_path, tmp_path / "a.tsv", columns={"prompt": 1, "response": 2})
    assert found == [("one", "1", ""), ("two", "2", "")]
    assert set(prepared.layouts.values()) == {AS_GIVEN}
    rows = [{"question": "q", "answer": "a", "best": "b"}]
    found, _ = read(
        tmp_path, write_rows(tmp_path / "b.jsonl", rows), columns={"prompt": "question", "response": "best"}
    )
    assert found == [("q", "b", "")]


def test_two_layouts_in_one_file_are_an_error_that_names_the_keys(tmp_path) -> None:
    file = write_rows(tmp_path / "a.jsonl", [{"prompt": "a", "response": "b", "completion": "c"}] * 3)
    with pytest.raises(UserError) as error:
        read(tmp_path, file)
    assert "more than one layout (prompt/response, prompt/completion)" in error.value.what
    assert "completion, prompt, response" in error.value.what
    assert error.value.where == str(file)
    assert "columns: {prompt: KEY, response: KEY" in error.value.fix


def test_an_unknown_layout_is_an_error_that_names_the_keys_and_the_known_ones(tmp_path) -> None:
    file = write_rows(tmp_path / "a.jsonl", [{"ask": "a", "reply": "b"}] * 3)
    with pytest.raises(UserError) as error:
        read(tmp_path, file)
    assert "no layout that is known: its keys are ask, reply" in error.value.what
    assert "alpaca (instruction, output)" in error.value.fix


def test_a_stray_row_does_not_decide_the_layout(tmp_path) -> None:
    rows = [{"question": "q", "answer": "a"}] * 5
    file = tmp_path / "a.jsonl"
    file.write_text(
        "[]\n{broken\n"
        + '{"prompt": "p", "response": "r"}\n'
        + "".join(json.dumps(row) + "\n" for row in rows)
    )
    found, prepared = read(tmp_path, file)
    assert len(found) == 5
    assert prepared.ledgers[0].reasons == {"malformed_json": 1, "missing_field": 1, "not_an_object": 1}


def test_all_shards_of_a_file_have_the_layout_of_its_start(tmp_path) -> None:
    rows = [{"question": f"q{n}", "answer": "a" * 50} for n in range(40)]
    source = Source(path=str(write_rows(tmp_path / "a.jsonl", rows)), contract="instruction")
    shards = plan_shards(source, [source.path], shard_bytes=500, record="instruction")
    assert len(shards) > 3
    told, _ = with_layouts(shards)
    assert {tuple(shard.columns.items()) for shard in told} == {
        (("prompt", "question"), ("response", "answer"))
    }


@pytest.fixture
def data_root() -> Path:
    import os

    root = os.environ.get("ROOTSTOCK_DATA")
    if not root:
        pytest.skip("ROOTSTOCK_DATA is not set: the real files are not on this machine")
    return Path(root) / "data"


def test_real_files_are_read_whole(tmp_path, data_root) -> None:
    found, prepared = read(tmp_path, data_root / "instruction_en" / "gsm8k_test.jsonl")
    assert len(found) == 1319
    assert "question/answer" in next(iter(prepared.layouts.values()))
    found, prepared = read(tmp_path, data_root / "instruction_zh" / "alpaca_zh_demo_1-650.json")
    assert len(found) == 650
    assert any(context for _, _, context in found)
    assert "alpaca" in next(iter(prepared.layouts.values()))
    with pytest.raises(UserError, match="no layout that is known"):
        read(tmp_path, data_root / "instruction_en" / "self_instruct_seed_tasks.jsonl")
