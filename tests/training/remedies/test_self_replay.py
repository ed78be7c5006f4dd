"""The base writes its own replay: seeded, filtered, kept once per base, and counted like any file."""

import json

import numpy as np
import pytest

from schemas.errors import UserError
from schemas.spec.remedies import SelfReplay
from tasks.data.tokens.tokenizer import load_tokenizer, special_ids
from tasks.training.models.load import load_base
from tasks.training.remedies.self_replay import (
    FILE,
    choose,
    distinct_ratio,
    generate_ids,
    is_text,
    write_text,
)
from tests.corpora import prepare_rows
from tests.training.prepared import prepare_inputs
from tests.training.remedies.small import SMALL, spec_with

SETTINGS = SelfReplay(**SMALL["self_replay"])
REMEDY = {"kind": "self_replay", **SMALL["self_replay"]}


def texts(step):
    return [
        json.loads(line)["text"] for line in (step.folder / FILE).read_text(encoding="utf-8").splitlines()
    ]


def test_the_same_base_and_seed_write_the_same_text_and_another_seed_another(base, tmp_path):
    first, again, other = (
        write_text(tmp_path / str(n), base, SETTINGS, seed) for n, seed in enumerate((5, 5, 6))
    )
    assert texts(first) == texts(again)
    assert texts(first) != texts(other)
    assert write_text(tmp_path / "0", base, SETTINGS, 5).folder == first.folder
    assert any("\u4e00" <= letter <= "\u9fff" for text in texts(first) for letter in text), "Chinese too"
    facts = first.facts
    assert facts["written"] == facts["kept"] + sum(facts["dropped"].values())
    assert facts["kept"] == len(texts(first)) == len(set(texts(first)))


def test_text_is_sampled_from_the_model_and_ends_at_eos(base):
    """Biased towards two tokens, the model writes those two and nothing else."""
    import torch

    model, tokenizer, special = load_base(base), load_tokenizer(base), special_ids(base)
    with torch.no_grad():
        model.lm_head.weight.zero_()
        model.lm_head.bias = torch.nn.Parameter(torch.full((special.vocab_size,), -100.0))
        model.lm_head.bias[[7, special.eos]] = torch.tensor([2.0, 0.0])
    written = list(generate_ids(model, tokenizer, base, SETTINGS, 1))
    assert all(set(ids[1:].tolist()) <= {7, special.eos} for ids in written)
    assert all(special.eos not in ids[:-1].tolist()[1:] for ids in written)
    sampled = np.concatenate([ids[1:] for ids in written])
    assert np.mean(sampled == special.eos) == pytest.approx(1 / (1 + np.exp(2)), abs=0.05)


def test_prompts_are_continued_in_turn(base):
    settings = SETTINGS.model_copy(update={"prompts": ("The old", "春天")})
    tokenizer = load_tokenizer(base)
    written = list(generate_ids(load_base(base), tokenizer, base, settings, 1))
    begun = [tokenizer.decode(ids.tolist()) for ids in written]
    assert all(text.startswith(("The old", "春天")) for text in begun)
    assert {text[:2] for text in begun} == {"Th", "春天"}


def test_short_repeating_and_unlikely_texts_are_dropped_and_counted():
    settings = SelfReplay(min_tokens=5, min_distinct=0.6, keep_ratio=0.5)
    rng = np.random.default_rng(0)
    written = [rng.integers(0, 999, 20) for _ in range(4)] + [np.arange(4), np.array([1, 2] * 10)]
    kept, dropped = choose(written, [3.0, 1.0, 4.0, 2.0, 0.1, 0.1], settings)
    assert kept == [1, 3]
    assert dropped == {"short": 1, "repeating": 1, "unlikely": 2}
    assert distinct_ratio(np.array([1, 2] * 10)) == pytest.approx(2 / 17)


def test_its_rows_are_a_replay_source_in_ledger_and_mixture(root, base, tmp_path):
    spec = spec_with(root, base, REMEDY, replay=[])
    assert len(spec.replay) == 1
    ledger = prepare_rows(root, spec).ledger.require_balance()
    (own,) = [file for file in ledger.files if file.role == "replay"]
    assert own.read == own.accepted + own.duplicate + own.leaked + own.quarantined > 0
    report = prepare_inputs(root, spec).plan.facts["report"]
    assert report["achieved_ratio"] == pytest.approx(0.25, abs=0.01)
    assert report["replay"][0]["trained_tokens"] == report["replay_tokens"] > 0


def test_where_nothing_passes_or_nothing_reads_it_that_is_said(root, base, tmp_path):
    with pytest.raises(UserError, match="nothing that the base wrote passes the filters"):
        write_text(tmp_path, base, SETTINGS.model_copy(update={"min_tokens": 10_000}), 1)
    with pytest.raises(ValueError, match="nothing reads the text that self_replay writes"):
        spec_with(root, base, REMEDY, replay=[], mixture={"replay_ratio": 0})
    spec_with(root, base, REMEDY, {"kind": "ewc"}, replay=[], mixture={"replay_ratio": 0})


def test_texts_longer_than_the_base_reads_are_refused(base, tmp_path):
    with pytest.raises(UserError, match="the base reads 128") as caught:
        write_text(tmp_path, base, SETTINGS.model_copy(update={"max_new_tokens": 130}), 1)
    assert caught.value.fix == "lower max_new_tokens by 3"


def test_halves_of_characters_and_control_characters_are_no_text():
    assert [is_text(text) for text in ("春天\n来了", "a\tb", "", "a\ufffd", "a\x07b", "\x85")] == [
        True, True, False, False, False, False,
    ]  # fmt: skip
