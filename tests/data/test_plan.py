"""The plan of a real corpus: what it reports is what it holds, byte for byte the same with one worker or many."""

import numpy as np
import pytest

from schemas.errors import UserError
from schemas.results.artifacts import MixtureReport, TokenLedger
from tasks.data.plan.mix import count_labels
from tasks.data.plan.plan import load_plan, open_sources, plan_training
from tasks.data.tokens.tokenize import tokenize_source
from tasks.data.tokens.tokenizer import special_ids
from tasks.storage.workers import map_in_processes
from tests.corpora import here, label_places, make_spec, prepare_rows, source, write_rows
from tests.tiny_base import prose


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    english, chinese = prose("en_*"), prose("zh_*")
    for number in range(3):
        write_rows(folder / f"domain-{number}.jsonl", english[number:90:3])
    write_rows(folder / "replay-en.jsonl", english[90:140])
    write_rows(folder / "replay-zh.jsonl", chinese[:30])
    write_rows(folder / "general.jsonl", [*chinese[30:40], english[0]])
    return folder


def spec_of(files, ratio=0.3, **training):
    return make_spec(
        domain=[source(files / "domain-*.jsonl")],
        replay=[source(files / "replay-en.jsonl", weight=2), source(files / "replay-zh.jsonl")]
        if ratio
        else [],
        mixture={"replay_ratio": ratio},
        evaluation={"domain_holdout": 0.2, "general": [source(files / "general.jsonl")]},
        training={"sequence_length": 64, "batch_tokens": 256, **training},
    )


def make_plan(root, spec, tokenizer_folder, map_shards=here):
    prepared = prepare_rows(root, spec, map_shards)
    special = special_ids(tokenizer_folder)
    steps = [tokenize_source(root, rows, tokenizer_folder, map_shards) for rows in prepared.training]
    plan = plan_training(root, spec, prepared.training, steps, prepared.divided, special)
    return plan, open_sources(prepared.training, steps, special)


@pytest.mark.parametrize("mode", [{"tokens": 5000}, {"epochs": 1.5}, {"steps": 20}])
@pytest.mark.parametrize("ratio", [0.0, 0.3])
def test_the_report_says_what_the_plan_holds(files, tokenizer_folder, tmp_path, mode, ratio):
    plan, _ = make_plan(tmp_path, spec_of(files, ratio, **mode), tokenizer_folder)
    report = MixtureReport.model_validate(plan.facts["report"])
    ledger = TokenLedger.model_validate(plan.facts["tokens"])
    pieces, sequences = load_plan(plan)
    replay = count_labels(pieces[pieces["source"] > 0])
    domain = count_labels(pieces[pieces["source"] == 0])
    assert (report.domain_tokens, report.replay_tokens) == (domain, replay)
    assert (ledger.domain_trained, ledger.replay_trained) == (domain, replay)
    assert report.requested_ratio == ratio
    assert report.achieved_ratio == replay / (domain + replay) == pytest.approx(ratio, abs=1e-3)
    assert report.sequences == len(sequences) - 1
    assert report.steps == report.sequences / 4
    assert report.sequences_per_step == 4
    positions = report.sequences * 64
    assert ledger.padding == positions - int(pieces["length"].astype(int).sum())
    assert report.fill_ratio == 1 - ledger.padding / positions
    assert report.domain_epochs == domain / ledger.domain
    assert (domain - ledger.domain_filled + ledger.truncated) % ledger.domain == 0
    assert [share.trained_tokens for share in report.replay] == [
        share.requested_tokens for share in report.replay
    ]
    assert sum(share.trained_tokens for share in report.replay) == replay
    for share in report.replay:
        assert 0 < share.epochs < 10
    if "tokens" in mode:
        assert domain + replay - ledger.domain_filled - ledger.replay_filled == 5000
    if "steps" in mode:
        assert report.steps == 20


def test_the_plan_trains_accepted_rows_alone_and_all_of_them(files, tokenizer_folder, tmp_path):
    spec = spec_of(files, 0.0, epochs=1)
    plan, sources = make_plan(tmp_path, spec, tokenizer_folder)
    prepared = prepare_rows(tmp_path, spec)
    places = set(label_places(load_plan(plan)[0]))
    from tasks.data.split.divide import Fate, load_fates

    fates = load_fates(prepared.divided, prepared.sources[0])
    expected = {
        (0, part, position)
        for part, (tokens, fate) in enumerate(zip(sources[0], fates, strict=True))
        for row in np.flatnonzero(fate == Fate.ACCEPTED)
        for position in range(tokens.offsets[row] + 1, tokens.offsets[row + 1])
    }
    assert places == expected
    assert prepared.ledger.total.held_out > 0
    assert prepared.ledger.total.leaked == 1


@pytest.mark.slow
def test_one_worker_and_two_write_the_same_bytes(files, tokenizer_folder, tmp_path, workers_for_few):
    spec = spec_of(files, steps=10)
    alone, _ = make_plan(tmp_path / "one", spec, tokenizer_folder, here)
    together, _ = make_plan(tmp_path / "two", spec, tokenizer_folder, map_in_processes)
    assert alone.manifest == together.manifest
    for name in ("pieces.npy", "sequences.npy"):
        assert (alone.folder / name).read_bytes() == (together.folder / name).read_bytes()


def test_another_seed_is_another_plan(files, tokenizer_folder, tmp_path):
    plans = [make_plan(tmp_path, spec_of(files, epochs=1, seed=seed), tokenizer_folder)[0] for seed in (1, 2)]
    assert plans[0].key != plans[1].key
    assert (plans[0].folder / "pieces.npy").read_bytes() != (plans[1].folder / "pieces.npy").read_bytes()


def test_a_source_without_a_row_to_train_on_is_named(files, tokenizer_folder, tmp_path):
    write_rows(tmp_path / "same.jsonl", prose("en_*")[:3])
    spec = spec_of(files, steps=2)
    spec = spec.model_copy(
        update={"replay": (spec.domain[0].model_copy(update={"path": str(tmp_path / "same.jsonl")}),)}
    )
    with pytest.raises(UserError, match="no training row is left in replay source 0") as error:
        make_plan(tmp_path, spec, tokenizer_folder)
    assert error.value.where == str(tmp_path / "same.jsonl")
    assert "ledger" in error.value.fix
