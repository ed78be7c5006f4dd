"""The mixture is exact to the token, every domain token trains once a pass, and steps are met exactly."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest

from schemas.errors import UserError
from tasks.data.plan.mix import count_labels
from tasks.data.plan.order import order_sequences
from tasks.data.plan.schedule import Lengths, _sequences, lay_out, num_sequences
from tests.corpora import label_places, made_corpus, made_source, make_spec, source

LENGTH = 32
RATIOS = [0.0, 0.01, 0.3, 0.9]


def layout(seed: int, ratio: float, weights=(1.0,), documents: int = 60, **training):
    """Lay out a run over two random domain sources and one random replay source a weight."""
    rng = np.random.default_rng(seed)
    sources = [made_source("domain", 0), made_source("domain", 1)]
    if ratio:
        sources += [made_source("replay", index, weight) for index, weight in enumerate(weights)]
    corpora = [made_corpus(n, np.clip(rng.lognormal(3, 0.8, documents), 2, 300)) for n in range(len(sources))]
    spec = make_spec(
        mixture={"replay_ratio": ratio},
        replay=[source(f"r{n}.txt", weight=weight) for n, weight in enumerate(weights)],
        training={"sequence_length": LENGTH, "seed": seed, **training},
    )
    laid = lay_out(spec, sources, corpora)
    return spec, sources, corpora, laid.pieces, laid.sequences, laid.lengths


def trained(sources, pieces) -> list[int]:
    return [count_labels(pieces[pieces["source"] == n]) for n in range(len(sources))]


def domain_places(pieces):
    return label_places(pieces[pieces["source"] < 2])


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("tokens", [1_000, 7_777, 20_001])
def test_tokens_mode_trains_exactly_the_tokens_and_the_share_asked_for(ratio, tokens):
    _, sources, _, pieces, _, _ = layout(1, ratio, tokens=tokens, batch_tokens=LENGTH)
    counts = trained(sources, pieces)
    assert sum(counts) == tokens
    assert sum(counts[2:]) == round(tokens * ratio)


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("epochs", [0.4, 1, 2.5])
def test_epochs_mode_passes_over_the_domain_so_often_and_adds_the_share_of_replay(ratio, epochs):
    _, sources, corpora, pieces, _, _ = layout(2, ratio, epochs=epochs, batch_tokens=LENGTH)
    counts = trained(sources, pieces)
    domain = round(epochs * (corpora[0].label_tokens + corpora[1].label_tokens))
    assert sum(counts[:2]) == domain
    assert sum(counts[2:]) == round(domain * ratio / (1 - ratio))


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("steps", [1, 3, 40])
@pytest.mark.parametrize("batch_tokens", [32, 128])
def test_steps_mode_gives_exactly_the_steps_and_the_share_asked_for(ratio, steps, batch_tokens):
    _, sources, _, pieces, sequences, _ = layout(3, ratio, steps=steps, batch_tokens=batch_tokens)
    per_step = batch_tokens // LENGTH
    assert math.ceil((len(sequences) - 1) / per_step) == steps
    counts = trained(sources, pieces)
    assert sum(counts[2:]) == round(sum(counts) * ratio)


@pytest.mark.parametrize("seed", range(12))
def test_steps_mode_leaves_no_room_for_another_token(seed):
    ratio = [0.0, 0.3, 0.9][seed % 3]
    spec, sources, corpora, pieces, sequences, lengths = layout(
        seed, ratio, steps=25, batch_tokens=64, documents=40 + seed * 20
    )
    assert len(sequences) - 1 == 50
    longer = Lengths.of(lengths.domain + lengths.replay + 1, ratio)
    assert num_sequences(_sequences(spec, sources, corpora, longer, {})) > 50
    assert pieces["length"].astype(int).sum() > 0.97 * 50 * LENGTH


def test_a_search_that_reuses_packed_passes_gives_what_packing_afresh_gives():
    spec, sources, corpora, pieces, sequences, lengths = layout(5, 0.3, weights=(2, 1), steps=300)
    assert lengths.domain > 3 * (corpora[0].label_tokens + corpora[1].label_tokens)
    is_domain = np.array([True, True, False, False])
    fresh = order_sequences(_sequences(spec, sources, corpora, lengths, {}), is_domain, 4, 5)
    assert (fresh[0] == pieces).all()
    assert (fresh[1] == sequences).all()


@pytest.mark.parametrize("mode", [{"tokens": 9_999}, {"epochs": 1.7}, {"steps": 30}])
@pytest.mark.parametrize("weights", [(1.0, 1.0), (2.0, 1.0), (0.1, 0.2, 0.7), (1e-6, 1.0)])
def test_replay_is_shared_by_weight_to_the_token(mode, weights):
    _, sources, _, pieces, _, _ = layout(4, 0.4, weights=weights, **mode)
    counts = trained(sources, pieces)[2:]
    for count, weight in zip(counts, weights, strict=True):
        assert abs(count - sum(counts) * weight / sum(weights)) < 1


@pytest.mark.parametrize("mode", [{"tokens": 9_999}, {"epochs": 3}, {"steps": 90}])
@pytest.mark.parametrize("ratio", [0.0, 0.5])
def test_every_domain_token_trains_exactly_once_in_each_pass(mode, ratio):
    _, _, corpora, pieces, _, _ = layout(6, ratio, **mode)
    available = corpora[0].label_tokens + corpora[1].label_tokens
    places = domain_places(pieces)
    assert len(places) > 2 * available or ratio
    for start in range(0, len(places), available):
        one_pass = places[start : start + available]
        assert len(set(one_pass)) == len(one_pass)
    whole = len(places) // available
    assert set(Counter(places[: whole * available]).values()) <= {whole}


def test_replay_keeps_pace_with_the_domain():
    """Each pass over the domain brings its share, so that no stretch of training goes without replay."""
    _, _, corpora, pieces, _, _ = layout(7, 0.5, epochs=4, batch_tokens=LENGTH)
    available = corpora[0].label_tokens + corpora[1].label_tokens
    domain = replay = 0
    for source_, _, _, length, _ in pieces.tolist():
        domain, replay = (domain + length - 1, replay) if source_ < 2 else (domain, replay + length - 1)
        if domain and domain % available == 0 and source_ < 2:
            assert abs(replay - domain) <= available
    assert domain == replay


@pytest.mark.parametrize("seed", range(6))
def test_sequences_partition_the_pieces_and_none_is_too_long(seed):
    _, _, _, pieces, sequences, _ = layout(seed, 0.3, epochs=2.3)
    assert sequences[0] == 0
    assert sequences[-1] == len(pieces)
    assert (np.diff(sequences) > 0).all()
    totals = np.add.reduceat(pieces["length"].astype(np.int64), sequences[:-1])
    assert totals.max() <= LENGTH


@pytest.mark.parametrize("seed", range(6))
def test_a_sequence_holds_no_piece_twice_unless_replay_came_round_again(seed):
    _, _, corpora, pieces, sequences, _ = layout(seed, 0.3, epochs=1, batch_tokens=LENGTH)
    came_round = count_labels(pieces[pieces["source"] == 2]) > corpora[2].label_tokens
    for start, stop in itertools.pairwise(sequences.tolist()):
        members = pieces[start:stop]
        once = members[members["source"] < 2] if came_round else members
        assert len(set(once.tolist())) == len(once)


def test_another_seed_gives_another_order_of_the_same_tokens():
    orders = [layout(1, 0.0, epochs=1, batch_tokens=LENGTH)[3], None]
    rng = np.random.default_rng(1)
    corpora = [made_corpus(n, np.clip(rng.lognormal(3, 0.8, 60), 2, 300)) for n in range(2)]
    other = make_spec(training={"sequence_length": LENGTH, "seed": 2, "epochs": 1, "batch_tokens": LENGTH})
    orders[1] = lay_out(other, [made_source("domain", 0), made_source("domain", 1)], corpora).pieces
    assert orders[0].tolist() != orders[1].tolist()
    assert sorted(label_places(orders[0])) == sorted(label_places(orders[1]))


@pytest.mark.parametrize("length", [{"tokens": 10**11}, {"steps": 10**7, "batch_tokens": 32 * LENGTH}])
def test_a_training_of_endless_passes_is_refused_before_it_is_laid_out(length):
    with pytest.raises(UserError, match=r"the training is too long: .* at most 100,000 passes") as refused:
        layout(3, 0.3, **length)
    assert refused.value.fix == f"lower training.{next(iter(length))}"


@pytest.mark.parametrize(
    ("mode", "ratio"), [({"tokens": 1}, 0.9), ({"epochs": 1e-9}, 0.0), ({"tokens": 3}, 0.9)]
)
def test_a_training_without_a_domain_token_is_refused(mode, ratio):
    with pytest.raises(UserError, match="not one of its tokens is domain text") as error:
        layout(1, ratio, **mode)
    assert error.value.where == "training"
    assert next(iter(mode)) in error.value.fix


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0, 1e6])
def test_sources_are_weighed_by_their_size_to_the_power_of_1_over_the_temperature(temperature):
    corpora = [made_corpus(n, np.full(count, 11)) for n, count in enumerate((400, 30, 90, 300))]
    sources = [
        made_source("domain", 0),
        *(made_source("replay", n, w) for n, w in enumerate((1.0, 2.0, 1.0))),
    ]
    spec = make_spec(
        mixture={"replay_ratio": 0.4, "temperature": temperature},
        replay=[source(f"r{n}.txt", weight=w) for n, w in enumerate((1.0, 2.0, 1.0))],
        training={"tokens": 3000, "sequence_length": LENGTH, "batch_tokens": LENGTH},
    )
    pieces = lay_out(spec, sources, corpora).pieces
    expected = np.array([1, 2, 1]) * np.array([300.0, 900, 3000]) ** (1 / temperature)
    assert trained(sources, pieces)[1:] == pytest.approx(1200 * expected / expected.sum(), abs=1)
    assert sum(trained(sources, pieces)[1:]) == 1200


@pytest.mark.parametrize("mode", [{"tokens": 9_999}, {"epochs": 1}, {"epochs": 2.5}, {"steps": 30}])
@pytest.mark.parametrize("batch", [2, 8])
def test_every_step_is_full_and_what_fills_the_last_one_is_counted(mode, batch):
    spec, sources, corpora, pieces, sequences, _ = layout(8, 0.4, batch_tokens=batch * LENGTH, **mode)
    laid = lay_out(spec, sources, corpora)
    assert (len(sequences) - 1) % batch == 0
    assert laid.lengths.domain + laid.lengths.replay == count_labels(pieces)
    filled = count_labels(pieces) - laid.asked.domain - laid.asked.replay
    assert 0 <= filled <= batch * LENGTH
    steps = np.add.reduceat(pieces["length"].astype(int), sequences[:-1:batch])
    assert steps.min() > (batch - 1) * LENGTH
    assert sum(trained(sources, pieces)[2:]) == round(count_labels(pieces) * 0.4) or mode == {"epochs": 1}


@pytest.mark.parametrize("documents", [(40, 400), (2, 8)])
@pytest.mark.parametrize("ratio", [0.05, 0.4, 0.9])
@pytest.mark.parametrize("batch", [1, 4, 16])
def test_each_step_has_its_share_of_replay_within_one_sequence(documents, ratio, batch):
    rng = np.random.default_rng(3)
    sources = [made_source("domain", 0), made_source("replay", 0), made_source("replay", 1)]
    corpora = [made_corpus(n, rng.integers(*documents, 3000)) for n in range(3)]
    spec = make_spec(
        mixture={"replay_ratio": ratio},
        replay=[source("r0.txt"), source("r1.txt")],
        training={"sequence_length": LENGTH, "seed": 3, "epochs": 2, "batch_tokens": batch * LENGTH},
    )
    laid = lay_out(spec, sources, corpora)
    labels = laid.pieces["length"].astype(int) - laid.pieces["context"]
    first = laid.sequences[:-1:batch]
    replay = np.add.reduceat(np.where(laid.pieces["source"] > 0, labels, 0), first)
    excess = replay - np.add.reduceat(labels, first) * ratio
    assert np.abs(excess).max() < LENGTH
    if documents[1] == 8 and batch > 1:
        assert (np.abs(excess) < 8).mean() > 0.9, "short documents: mostly within one of them"
