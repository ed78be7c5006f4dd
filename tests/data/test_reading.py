"""A file is read, gated and tokenised once per content, whatever it is read for and whatever lies beside it."""

import hashlib
import json
import os
import shutil
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from schemas.spec.sources import Source
from tasks.data.split.divide import load_ledger
from tasks.data.tokens.token_files import open_tokens
from tasks.data.tokens.tokenize import tokenize_source
from tasks.data.tokens.tokenizer import special_ids
from tasks.data.validate import file_steps as reading
from tasks.data.validate.file_steps import share_steps
from tasks.data.validate.sources import copy_quarantine, validate_source
from tasks.release.run.clean import clean
from tests.command_line import rootstock
from tests.corpora import here, make_spec, prepare_rows, source, write_rows
from tests.tiny_base import make_base, prose


def write_files(folder: Path, numbers: range) -> None:
    for number in numbers:
        rows = [f"Row {row} of file {number} tells of grafting." for row in range(3)]
        write_rows(folder / f"{number:03d}.jsonl", [*rows, {"no": "text"}])


def steps(state: Path, *kinds: str) -> Counter[str]:
    """How many steps of each kind there are; with their names."""
    return Counter(folder.name for kind in kinds for folder in (state / "data").glob(f"{kind}-*"))


def contents(state: Path, *kinds: str) -> dict[str, str]:
    return {
        str(file.relative_to(state)): hashlib.sha256(file.read_bytes()).hexdigest()
        for kind in kinds
        for folder in (state / "data").glob(f"{kind}-*")
        for file in folder.rglob("*")
        if file.is_file()
    }


KINDS = ("read", "validate", "encode", "tokenize", "divide")


@pytest.fixture
def work(tmp_path, tokenizer_folder):
    """Do the steps on `tmp_path`'s files as domain and, all of them, as replay; the general suite is apart."""
    write_rows(tmp_path / "general.jsonl", ["something else", "and more of it"])
    glob = str(tmp_path / "files" / "*.jsonl")
    spec = make_spec(
        domain=[source(glob)],
        replay=[source(glob)],
        mixture={"replay_ratio": 0.5},
        evaluation={"domain_holdout": 0.2, "general": [source(tmp_path / "general.jsonl")]},
    )

    def do(state):
        prepared = prepare_rows(state, spec)
        tokens = {s.label: tokenize_source(state, s, tokenizer_folder, here) for s in prepared.sources}
        return prepared, tokens

    return do


def test_one_file_more_costs_the_work_of_one_file_and_the_role_costs_nothing(tmp_path, work):
    write_files(tmp_path / "files", range(20))
    work(tmp_path / "state")
    before = steps(tmp_path / "state", "read", "encode")
    assert len(before) == 2 * (20 + 1), "domain and replay share their steps; one file is general"
    write_files(tmp_path / "files", range(7, 8))  # the same again
    write_files(tmp_path / "files", range(20, 21))
    prepared, _ = work(tmp_path / "state")
    assert sorted(name.split("-")[0] for name in steps(tmp_path / "state", "read", "encode") - before) == [
        "encode",
        "read",
    ]
    work(tmp_path / "fresh")
    made, fresh = (contents(tmp_path / state, *KINDS) for state in ("state", "fresh"))
    assert fresh.items() <= made.items(), "byte for byte what a fresh state holds"
    ledger = load_ledger(prepared.divided).require_balance()
    assert len(ledger.files) == 21 + 21 + 1
    assert {(file.read, file.quarantined) for file in ledger.files if file.role != "general_suite"} == {
        (4, 1)
    }


def test_a_file_that_is_gone_or_renamed_costs_nothing_or_itself(tmp_path, work):
    write_files(tmp_path / "files", range(6))
    work(tmp_path / "state")
    before = steps(tmp_path / "state", "read", "encode")
    (tmp_path / "files" / "002.jsonl").unlink()
    prepared, _ = work(tmp_path / "state")
    assert steps(tmp_path / "state", "read", "encode") == before
    assert [Path(ledger.file).name for ledger in prepared.sources[0].ledgers] == [
        f"00{n}.jsonl" for n in (0, 1, 3, 4, 5)
    ]
    (tmp_path / "files" / "003.jsonl").rename(tmp_path / "files" / "900.jsonl")
    prepared, _ = work(tmp_path / "state")
    assert len(steps(tmp_path / "state", "read", "encode") - before) == 2
    last = pq.read_table(prepared.sources[0].parts[-1]).to_pylist()
    assert [(Path(row["file"]).name, row["line"]) for row in last] == [("900.jsonl", n) for n in (1, 2, 3)]


@pytest.mark.parametrize("kind", ["read", "encode"])
def test_a_step_that_was_removed_is_worked_again_to_the_same_bytes(tmp_path, work, kind):
    write_files(tmp_path / "files", range(3))
    work(tmp_path / "state")
    made = contents(tmp_path / "state", *KINDS)
    shutil.rmtree(next((tmp_path / "state" / "data").glob(f"{kind}-*")))
    work(tmp_path / "state")
    assert contents(tmp_path / "state", *KINDS) == made


def test_clean_keeps_the_files_that_a_run_in_use_rests_on(tmp_path, work):
    write_files(tmp_path / "files", range(3))
    state = tmp_path / "state"
    work(state)
    unused = steps(state, "read", "encode")
    write_files(tmp_path / "files", range(3, 4))
    (tmp_path / "files" / "000.jsonl").unlink()
    _, tokens = work(state)
    run = state / "runs" / "a-run"
    run.mkdir(parents=True)
    (run / "lineage.json").write_text(
        json.dumps({"steps": {label: step.key for label, step in tokens.items()}})
    )
    for manifest in (state / "data").glob("*/manifest.json"):
        os.utime(manifest, (0, 0))
    gone = Counter(one.folder.name for one in clean(state, 1, really=False))
    assert sorted(name.split("-")[0] for name in gone & unused) == ["encode", "read"], (
        "of the file that is gone"
    )
    assert not gone & steps(state, "read", "encode") - unused


def test_what_a_source_does_not_read_reads_no_file_again(tmp_path):
    write_files(tmp_path / "files", range(2))
    glob = str(tmp_path / "files" / "*.jsonl")
    for path, settings in ((glob, {}), (glob, {"weight": 3.0}), (str(tmp_path / "files" / "000.jsonl"), {})):
        given = Source(path=path, contract="general_text", **settings)
        validate_source(tmp_path / "state", given, "domain", 0, here)
    assert len(steps(tmp_path / "state", "read")) == 2
    given = Source(path=glob, contract="general_text", group="g")
    validate_source(tmp_path / "state", given, "domain", 0, here)
    assert len(steps(tmp_path / "state", "read")) == 4


def test_many_small_files_share_steps_and_one_more_changes_one_of_them(monkeypatch):
    monkeypatch.setattr(reading, "MOST_STEPS", 8)
    sizes = {f"{number:03d}.txt": 2 * reading.SMALL_BYTES if number == 50 else 10 for number in range(100)}
    shared = share_steps(sizes)
    assert [file for step in shared for file in step] == list(sizes)
    assert 3 <= len(shared) <= 25
    assert ("050.txt",) in shared
    for gone in list(sizes)[::7]:
        fewer = share_steps({file: size for file, size in sizes.items() if file != gone})
        assert len(set(shared) - set(fewer)) <= 2
    few = dict(list(sizes.items())[:8])
    assert share_steps(few) == [(file,) for file in few]


def test_files_that_share_a_step_keep_their_lines_ledgers_and_quarantine(
    tmp_path, monkeypatch, tokenizer_folder
):
    write_files(tmp_path / "files", range(30))
    (tmp_path / "files" / "017.jsonl").write_text("")
    given = Source(path=str(tmp_path / "files" / "*.jsonl"), contract="general_text")
    alone = validate_source(tmp_path / "alone", given, "domain", 0, here)
    monkeypatch.setattr(reading, "MOST_STEPS", 4)
    shared = validate_source(tmp_path / "shared", given, "domain", 0, here)
    assert len(steps(tmp_path / "shared", "read")) < len(steps(tmp_path / "alone", "read")) == 30
    assert shared.ledgers == alone.ledgers
    assert [ledger.read for ledger in shared.ledgers].count(0) == 1
    rows = [[row for part in s.parts for row in pq.read_table(part).to_pylist()] for s in (alone, shared)]
    assert rows[0] == rows[1]
    assert sum(shared.part_rows) == len(rows[1]) == 29 * 3
    for prepared, name in ((alone, "a"), (shared, "b")):
        copy_quarantine(prepared, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert len({json.loads(line)["file"] for line in (tmp_path / "b").read_text().splitlines()}) == 29
    special = special_ids(tokenizer_folder)
    ids = []
    for prepared, state in ((alone, "alone"), (shared, "shared")):
        step = tokenize_source(tmp_path / state, prepared, tokenizer_folder, here)
        parts = open_tokens(step, len(prepared.parts), special.vocab_size)
        ids.append([part.document(row).tolist() for part in parts for row in range(len(part.offsets) - 1)])
    assert ids[0] == ids[1]


@pytest.mark.slow
def test_the_command_line_does_one_files_work_for_one_file_more(tmp_path):
    """Through `rootstock run --dry-run`, whose data stages are those of a run."""
    base = make_base(tmp_path / "base")
    lines = prose("en_*")
    for number in range(50):
        write_rows(
            tmp_path / "data" / f"{number:02d}.jsonl", [f"{number} {text[:120]}" for text in lines[:6]]
        )
    write_rows(tmp_path / "general.jsonl", [text[:120] for text in lines[60:90]])
    spec = make_spec(
        base=str(base),
        domain=[source("data/*.jsonl")],
        replay=[source("general.jsonl")],
        mixture={"replay_ratio": 0.2},
        evaluation={"domain_holdout": 0.2, "general": [source("data/0*.jsonl")]},
    )
    (tmp_path / "spec.yaml").write_text(spec.model_dump_json(exclude_none=True))
    kinds = ("read", "gate", "encode")
    made = []
    for number in (49, 50):
        write_rows(
            tmp_path / "data" / f"{number:02d}.jsonl", [f"{number} {text[:120]}" for text in lines[:6]]
        )
        done = rootstock("run", "spec.yaml", "--dry-run", "--json", cwd=tmp_path)
        assert done.code == 0, done.err
        made.append(steps(tmp_path / ".rootstock", *kinds))
        assert done.json()["rows read"] == 6 * (number + 1) + 6 * 10 + 30
    assert sorted(name.split("-")[0] for name in made[0]) == sorted(51 * kinds)
    assert sorted(name.split("-")[0] for name in made[1] - made[0]) == sorted(kinds)
