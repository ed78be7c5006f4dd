"""Counts of instructions are label tokens: those of the responses and their EOS, to the token; prompts are context."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from schemas.errors import UserError
from schemas.spec.run import RunSpec
from tasks.data.plan.mix import Corpus, draw
from tasks.data.plan.plan import labels_before_steps, load_plan, open_sources, plan_training
from tasks.data.split.divide import Fate, load_fates
from tasks.data.tokens.prompts import PLAIN
from tasks.data.tokens.tokenize import tokenize_source
from tasks.data.tokens.tokenizer import special_ids
from tests.corpora import here, label_places, make_spec, prepare_rows, source, write_rows
from tests.tiny_base import prose
from tests.toy_sums import sums

LONG = "word " * 60


@pytest.fixture
def files(tmp_path: Path) -> Path:
    write_rows(tmp_path / "domain.jsonl", sums())
    write_rows(tmp_path / "replay.jsonl", [line[:200] for line in prose("en_*")])
    write_rows(
        tmp_path / "chat.jsonl", [{"prompt": f"Say {n}.", "response": f"{n}. " * 5} for n in range(60)]
    )
    write_rows(tmp_path / "general.jsonl", ["scored"])
    return tmp_path


def spec_for(files: Path, ratio: float = 0.0, replay: str = "replay", **training) -> RunSpec:
    beside = {"record": "text"} if replay == "replay" else {}
    return make_spec(
        objective={"kind": "instruction"},
        domain=[source(files / "domain.jsonl")],
        replay=[source(files / f"{replay}.jsonl", **beside)],
        mixture={"replay_ratio": ratio},
        training={"sequence_length": 96, "batch_tokens": 384, **training},
        evaluation={
            "domain_holdout": 0.1,
            "general": [source(files / "general.jsonl", record="text")],
        },
    )


def planned(root: Path, spec: RunSpec, folder: Path):
    """The plan's step, and the token parts of the training sources as it numbers them."""
    prepared = prepare_rows(root, spec)
    special = special_ids(folder)
    steps = [
        tokenize_source(root, rows, folder, here, spec.record_of(rows.source), PLAIN)
        for rows in prepared.training
    ]
    plan = plan_training(root, spec, prepared.training, steps, prepared.divided, special)
    return plan, open_sources(prepared.training, steps, special), prepared


def accepted_labels(prepared, parts) -> set[tuple[int, int, int]]:
    """(source, part, position) of every response token and EOS of the accepted domain rows."""
    (domain,) = [s for s in prepared.training if s.role == "domain"]
    found = set()
    for number, (part, fates) in enumerate(zip(parts[0], load_fates(prepared.divided, domain), strict=True)):
        for row in np.flatnonzero(fates == Fate.ACCEPTED):
            start, stop = part.offsets[row], part.offsets[row + 1]
            found |= {(0, number, at) for at in range(start + part.context(row), stop)}
    return found


def test_every_response_token_is_trained_once_an_epoch_and_no_prompt_token_ever(
    files, tokenizer_folder, tmp_path
):
    plan, parts, prepared = planned(
        tmp_path / "s", spec_for(files, epochs=1, batch_tokens=96), tokenizer_folder
    )
    pieces, _ = load_plan(plan)
    places = label_places(pieces)
    assert len(places) == len(set(places))
    assert set(places) == accepted_labels(prepared, parts)
    assert plan.facts["tokens"]["domain"] == plan.facts["tokens"]["domain_trained"] == len(places)
    assert plan.facts["tokens"]["truncated"] == 0


@pytest.mark.parametrize("replay", ["replay", "chat"])
@pytest.mark.parametrize("tokens", [997, 4001])
def test_length_and_replay_ratio_are_met_to_the_label_token(
    files, tokenizer_folder, tmp_path, replay, tokens
):
    spec = spec_for(files, 0.3, replay, tokens=tokens, batch_tokens=96)
    plan, _, _ = planned(tmp_path / "s", spec, tokenizer_folder)
    pieces, _ = load_plan(plan)
    places = label_places(pieces)
    beside = sum(source_ == 1 for source_, _, _ in places)
    assert len(places) == tokens
    assert beside == round(0.3 * tokens)
    report = plan.facts["report"]
    assert (report["domain_tokens"], report["replay_tokens"]) == (tokens - beside, beside)
    assert report["achieved_ratio"] == beside / tokens


def test_a_piece_that_begins_inside_a_response_still_has_its_prompt(files, tokenizer_folder, tmp_path):
    spec = spec_for(files, 0.3, "chat", epochs=3.37)
    plan, parts, _ = planned(tmp_path / "s", spec, tokenizer_folder)
    pieces, _ = load_plan(plan)
    inside = 0
    for number, (part,) in enumerate(parts):
        mine = pieces[pieces["source"] == number]
        rows = np.searchsorted(part.offsets, mine["start"])
        assert (part.offsets[rows] == mine["start"]).all(), "every piece begins with its prompt"
        inside += int((mine["context"] > part.contexts[rows]).sum())
    assert inside, "replay of one epoch ends inside a response, and goes on in the next"


def test_a_stream_drawn_in_parts_is_the_stream_drawn_at_once() -> None:
    rng = np.random.default_rng(3)
    contexts, labels = rng.integers(2, 9, 30), rng.integers(1, 9, 30)
    ends = np.cumsum(contexts + labels)
    corpus = Corpus(0, np.zeros(30, np.int32), ends - contexts - labels, contexts + labels, contexts=contexts)
    whole = draw([corpus], 400, 0, 7, 0)
    cuts = [0, 3, 4, 150, 151, 270, 400]
    parts = [draw([corpus], b - a, a, 7, 0) for a, b in itertools.pairwise(cuts)]
    assert sorted(label_places(np.concatenate(parts))) == sorted(label_places(whole))
    assert len(label_places(whole)) == 400


def test_the_steps_asked_for_are_the_steps_that_come(files, tokenizer_folder, tmp_path):
    for steps in (1, 3, 10):
        plan, _, _ = planned(tmp_path / "s", spec_for(files, 0.3, "chat", steps=steps), tokenizer_folder)
        assert plan.facts["report"]["steps"] == steps
        pieces, sequences = load_plan(plan)
        before = labels_before_steps(pieces, sequences, plan.facts["report"]["sequences_per_step"])
        assert before[-1] == len(label_places(pieces))
        assert len(before) == steps + 1


def test_a_long_response_is_cut_and_a_prompt_without_room_is_left_out_both_counted(
    files, tokenizer_folder, tmp_path
):
    rows = [*sums()[:50], {"question": "Why?", "answer": LONG}, {"question": LONG, "answer": "Yes."}]
    write_rows(files / "domain.jsonl", rows)
    plan, parts, prepared = planned(
        tmp_path / "s", spec_for(files, epochs=1, batch_tokens=96), tokenizer_folder
    )
    (part,) = parts[0]
    kept = load_fates(prepared.divided, prepared.training[0])[0] == Fate.ACCEPTED
    assert kept[50], "the seed keeps both odd rows in training"
    assert kept[51], "the seed keeps both odd rows in training"
    assert part.offsets[51] - part.offsets[50] > 96
    assert part.context(51) >= 96
    ledger = plan.facts["tokens"]
    assert ledger["no_room"] == 1
    cut = int(part.offsets[51] - part.offsets[50] - 96 + part.labels[51])
    assert ledger["truncated"] == cut
    assert ledger["domain_trained"] + cut == int(part.labels[kept].sum())
    pieces, _ = load_plan(plan)
    assert part.offsets[51] not in pieces["start"]
    (long,) = pieces[pieces["start"] == part.offsets[50]].tolist()
    assert long[3] == 96
    assert part.tokens[long[2] + 95] != special_ids(tokenizer_folder).eos, (
        "a cut response is not taught to stop"
    )


def test_prompts_that_all_leave_no_room_are_an_error(files, tokenizer_folder, tmp_path):
    write_rows(files / "domain.jsonl", [{"question": f"{LONG}{n}", "answer": "Yes."} for n in range(30)])
    with pytest.raises(
        UserError, match="no prompt of domain source 0 leaves room for a response in 96 tokens"
    ) as error:
        planned(tmp_path / "s", spec_for(files, epochs=1, batch_tokens=96), tokenizer_folder)
    assert error.value.where == str(files / "domain.jsonl")
    assert error.value.fix == "raise training.sequence_length"


def test_two_answers_to_one_question_are_both_trained_and_a_scored_question_with_another_answer_is_not(
    files, tmp_path
):
    rows = [
        {"question": "What is 1 + 1?", "answer": "2"},
        {"question": "What is 1 + 1?", "answer": "It is 2."},
        {"question": "What is 1 + 1?", "answer": "2"},
        {"question": "What  is 9 + 9?\n", "answer": "It must be 18."},
    ]
    write_rows(files / "domain.jsonl", rows)
    write_rows(files / "test.jsonl", [{"question": "What is 9 + 9?", "answer": "#### 18"}])
    spec = spec_for(files, epochs=1)
    evaluation = {
        "domain": [source(files / "test.jsonl")],
        "general": [source(files / "general.jsonl", record="text")],
    }
    spec = RunSpec.model_validate({**spec.model_dump(mode="json"), "evaluation": evaluation})
    prepared = prepare_rows(tmp_path / "s", spec)
    (fates,) = load_fates(prepared.divided, prepared.training[0])
    assert fates.tolist() == [Fate.ACCEPTED, Fate.ACCEPTED, Fate.DUPLICATE, Fate.LEAKED]


def test_a_held_out_question_is_trained_on_nowhere(files, tmp_path):
    import pyarrow.parquet as pq

    rows = [{"question": f"q{n // 2}", "answer": f"a{n}", "topic": n % 7} for n in range(200)]
    write_rows(files / "domain.jsonl", rows)
    write_rows(files / "chat.jsonl", [{"prompt": f"q{n}", "response": "another"} for n in range(100)])
    for group in (None, "topic"):
        spec = spec_for(files, 0.2, "chat", epochs=1).model_dump(mode="json")
        spec["domain"][0]["group"] = group
        prepared = prepare_rows(tmp_path / "s", RunSpec.model_validate(spec))
        asked: dict[int, set[str]] = {fate: set() for fate in Fate}
        for rows_of in prepared.training:
            for part, fates in zip(rows_of.parts, load_fates(prepared.divided, rows_of), strict=True):
                for prompt, fate in zip(pq.read_table(part)["prompt"].to_pylist(), fates, strict=True):
                    asked[fate].add(prompt)
        assert asked[Fate.HELD_OUT]
        assert asked[Fate.LEAKED] <= asked[Fate.HELD_OUT]
        assert not asked[Fate.HELD_OUT] & asked[Fate.ACCEPTED]
        prepared.ledger.require_balance()
