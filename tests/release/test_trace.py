"""A row is followed to its fate and to the very steps whose batches hold its text."""

import json
from pathlib import Path

import numpy as np
import pytest

from schemas.errors import UserError
from tasks.data.plan.plan import load_plan, open_sources, plan_training
from tasks.data.tokens.tokenize import tokenize_source
from tasks.data.tokens.tokenizer import encode_text, special_ids
from tasks.release.promotion.promotion import promote
from tasks.release.run.trace import trace_row
from tests.corpora import here, make_spec, prepare_rows, source, write_rows
from tests.tiny_base import TINY, prose

LENGTH, PER_STEP = 32, 4


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tasks.training.models.scratch import save_tokenizer, train_tokenizer

    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(train_tokenizer(lambda: iter(prose()[::3]), TINY), folder, TINY.context_length)
    return folder


class Traced:
    """A run's data stages with the lineage a finished run has."""

    def __init__(self, state: Path, tokenizer: Path, folder: Path, **training):
        english = prose("en_*")
        texts = [line[: 60 + 40 * (n % 9)] for n, line in enumerate(english[:30])]
        write_rows(folder / "domain.jsonl", [*texts, texts[0], english[40]])
        (folder / "domain.jsonl").open("a").write("{broken\n")
        write_rows(folder / "replay.jsonl", [line[:200] for line in english[60:66]])
        write_rows(folder / "general.jsonl", [english[40]])
        self.folder, self.state = folder, state
        self.spec = make_spec(
            name="medical",
            domain=[source(folder / "domain.jsonl")],
            replay=[source(folder / "replay.jsonl")],
            mixture={"replay_ratio": 0.3},
            evaluation={"domain_holdout": 0.2, "general": [source(folder / "general.jsonl")]},
            training={"sequence_length": LENGTH, "batch_tokens": LENGTH * PER_STEP, **training},
        )
        prepared = prepare_rows(state, self.spec)
        special = special_ids(tokenizer)
        steps = {s.label: tokenize_source(state, s, tokenizer, here) for s in prepared.sources}
        tokenized = [steps[s.label] for s in prepared.training]
        self.plan = plan_training(state, self.spec, prepared.training, tokenized, prepared.divided, special)
        self.sources = open_sources(prepared.training, tokenized, special)
        keys = {f"validate {s.label}": s.validated.key for s in prepared.sources}
        keys |= {f"tokenize {label}": step.key for label, step in steps.items()}
        keys |= {"divide": prepared.divided.key, "plan": self.plan.key, "train": "t"}
        run = state / "runs" / "medical-one"
        run.mkdir(parents=True, exist_ok=True)
        data = {file: "0" for s in prepared.sources for file in s.validated.manifest.inputs}
        (run / "lineage.json").write_text(json.dumps({"run": "medical-one", "data": data, "steps": keys}))

    def row(self, line: int, file: str = "domain.jsonl") -> dict:
        (trace,) = trace_row(self.state, f"{self.folder / file}:{line}")
        return trace

    def texts(self, file: str = "domain.jsonl") -> list[str]:
        lines = (self.folder / file).read_text(encoding="utf-8").splitlines()
        return [json.loads(line)["text"] for line in lines if line != "{broken"]

    def batches(self) -> list[list[list[int]]]:
        """Ids of every piece of every step, as the model sees them."""
        pieces, sequences = load_plan(self.plan)
        steps: list[list[list[int]]] = []
        for number in range(len(sequences) - 1):
            if number % PER_STEP == 0:
                steps.append([])
            chosen = pieces[sequences[number] : sequences[number + 1]].tolist()
            for source_, part, start, length, _ in chosen:
                steps[-1].append(self.sources[source_][part].tokens[start : start + length].tolist())
        return steps


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory, tokenizer: Path) -> Traced:
    folder = tmp_path_factory.mktemp("trace")
    return Traced(folder / "state", tokenizer, folder, epochs=2.5)


def holds(ids: list[int], piece: list[int]) -> bool:
    return any(ids[at : at + len(piece)] == piece for at in range(len(ids) - len(piece) + 1))


@pytest.mark.parametrize("file", ["domain.jsonl", "replay.jsonl"])
def test_the_steps_of_a_row_are_those_whose_batches_hold_it(
    traced: Traced, tokenizer: Path, file: str
) -> None:
    every = {name: encode_text(tokenizer, traced.texts(name)) for name in ("domain.jsonl", "replay.jsonl")}
    batches = traced.batches()
    checked = 0
    for line, ids in enumerate(every[file], start=1):
        trace = traced.row(line, file)
        if trace["fate"] != "accepted":
            continue
        others = [o for name in every for n, o in enumerate(every[name], 1) if (name, n) != (file, line)]
        possible = {s for s, pieces in enumerate(batches, 1) if any(holds(ids, piece) for piece in pieces)}
        certain = {
            s
            for s, pieces in enumerate(batches, 1)
            if any(holds(ids, piece) and not any(holds(o, piece) for o in others) for piece in pieces)
        }
        said = set(map(int, trace["steps"].split(", ")))
        assert certain <= said <= possible
        checked += certain == possible
    assert checked > {"domain.jsonl": 15, "replay.jsonl": 3}[file]


def test_a_row_trained_in_two_passes_has_steps_in_both(traced: Traced) -> None:
    lines = [n for n in range(1, 31) if traced.row(n)["fate"] == "accepted"]
    assert all(len(traced.row(n)["steps"].split(", ")) >= 2 for n in lines)


def test_rows_that_were_not_trained_say_why(traced: Traced) -> None:
    assert traced.row(31)["fate"] == "duplicate"
    assert traced.row(32)["fate"] == "leaked"
    assert traced.row(33)["fate"] == "quarantined: malformed_json"
    assert traced.row(99)["fate"] == "not a row"
    fates = {traced.row(n)["fate"] for n in range(1, 31)}
    assert fates == {"accepted", "held out"}
    for line in (31, 32, 33, 99, *(n for n in range(1, 31) if traced.row(n)["fate"] == "held out")):
        assert traced.row(line)["steps"] == ""


def test_a_scored_row_is_in_its_suite_and_in_no_step(traced: Traced) -> None:
    assert traced.row(1, "general.jsonl") | {"models": ""} == {
        "run": "medical-one", "role": "general_suite-0", "fate": "accepted", "steps": "", "models": ""
    }  # fmt: skip


def test_a_row_that_a_short_run_did_not_reach_was_cut_off(tokenizer: Path, tmp_path: Path) -> None:
    short = Traced(tmp_path / "state", tokenizer, tmp_path, steps=1)
    said = {short.row(n)["steps"] for n in range(1, 31) if short.row(n)["fate"] == "accepted"}
    assert said == {"1", "none (cut off)"}


def test_the_file_may_be_named_relative_to_where_one_stands(
    traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(traced.folder)
    assert trace_row(traced.state, "domain.jsonl:1") == [traced.row(1)]


@pytest.mark.parametrize("place", ["domain.jsonl", "domain.jsonl:x", ":5", "domain.jsonl:"])
def test_what_is_no_place_is_told_how_to_write_one(traced: Traced, place: str) -> None:
    with pytest.raises(UserError, match="is not the place of a row") as error:
        trace_row(traced.state, place)
    assert "FILE:LINE" in error.value.fix


def test_a_file_no_run_has_read_is_an_error(traced: Traced) -> None:
    with pytest.raises(UserError, match=r"no finished run has read other\.jsonl:1"):
        trace_row(traced.state, "other.jsonl:1")


def test_models_that_saw_the_row_are_named_with_their_aliases(state, make_run, tokenizer, tmp_path) -> None:
    trained = Traced(state, tokenizer, tmp_path, epochs=1)
    lineage = (state / "runs/medical-one/lineage.json").read_text()
    (state / "runs/medical-one/lineage.json").unlink()
    (state / "runs/medical-one").rmdir()
    promote(state, make_run("medical-one"))
    (state / "runs/medical-one/lineage.json").write_text(lineage)
    assert trained.row(1)["models"] == "medical version 1 (champion)"
    assert np.all([trained.row(n)["run"] == "medical-one" for n in (1, 2)])
