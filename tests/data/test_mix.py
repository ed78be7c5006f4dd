"""The stream of label tokens: exact, each token once a pass, the same however it is drawn."""

import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from tasks.data.plan.mix import collect, count_labels, cut_windows, draw, share_tokens
from tasks.data.tokens.token_files import TokenPart
from tests.corpora import label_places, made_corpus


def corpora(seed: int):
    rng = np.random.default_rng(seed)
    return [
        made_corpus(number, rng.integers(2, 60, rng.integers(1, 25)), parts=1 + number) for number in (0, 1)
    ]


@pytest.mark.parametrize("seed", range(5))
def test_a_pass_holds_every_label_token_exactly_once(seed):
    both = corpora(seed)
    total = sum(corpus.label_tokens for corpus in both)
    places = label_places(draw(both, total, 0, seed, 0))
    assert len(places) == total == len(set(places))


@pytest.mark.parametrize("seed", range(5))
def test_three_passes_hold_every_label_token_three_times_each_in_its_own_order(seed):
    both = corpora(seed)
    total = sum(corpus.label_tokens for corpus in both)
    places = label_places(draw(both, 3 * total, 0, seed, 0))
    assert set(Counter(places).values()) == {3}
    passes = [places[n * total : (n + 1) * total] for n in range(3)]
    assert passes[0] != passes[1] != passes[2]


@pytest.mark.parametrize("seed", range(20))
def test_a_stream_drawn_in_parts_is_the_stream_drawn_at_once(seed):
    both = corpora(seed)
    rng = np.random.default_rng(seed)
    total = sum(corpus.label_tokens for corpus in both)
    begin, tokens = int(rng.integers(0, 2 * total)), int(rng.integers(1, 3 * total))
    whole = label_places(draw(both, tokens, begin, seed, 4))
    assert len(whole) == tokens
    cuts = sorted({0, tokens, *rng.integers(0, tokens + 1, 7).tolist()})
    parts = [draw(both, stop - start, begin + start, seed, 4) for start, stop in itertools.pairwise(cuts)]
    assert [count_labels(part) for part in parts] == np.diff(cuts).tolist()
    assert [place for part in parts for place in label_places(part)] == whole


def test_a_piece_always_carries_the_id_before_its_first_label():
    pieces = draw(corpora(3), 500, 17, 3, 0)
    assert (pieces["length"] >= 2).all()
    assert (pieces["start"] >= 0).all()


def test_streams_and_seeds_have_orders_of_their_own():
    both = corpora(1)
    total = sum(corpus.label_tokens for corpus in both)
    orders = {tuple(draw(both, total, 0, seed, stream).tolist()) for seed in (1, 2) for stream in (0, 1)}
    assert len(orders) == 4


def test_drawing_nothing_gives_nothing():
    assert len(draw(corpora(0), 0, 5, 1, 0)) == 0


@pytest.mark.parametrize("length", [8, 9, 32, 100])
def test_windows_overlap_by_one_id_so_labels_count_once(length):
    pieces = draw([made_corpus(0, np.arange(2, 300, 7))], 4000, 0, 5, 0)
    windows = cut_windows(pieces, length)
    assert label_places(windows) == label_places(pieces)
    assert windows["length"].max() <= length
    assert windows["length"].min() >= 2
    assert len(windows) == sum(max(1, -(-(n - 1) // (length - 1))) for n in pieces["length"].tolist())


def test_documents_are_collected_only_where_kept_and_where_they_have_a_label():
    tokens = np.arange(20, dtype=np.uint16)
    part = TokenPart(tokens, np.array([0, 5, 6, 6, 9, 20]))
    corpus = collect(3, [part, part], [np.array([1, 1, 1, 1, 0], bool), np.array([0, 1, 1, 1, 1], bool)])
    assert corpus.source == 3
    assert list(zip(corpus.parts, corpus.starts, corpus.lengths, strict=True)) == [
        (0, 0, 5), (0, 6, 3), (1, 6, 3), (1, 9, 11)
    ]  # fmt: skip
    assert corpus.label_tokens == 4 + 2 + 2 + 10


@pytest.mark.parametrize("total", [0, 1, 7, 1000, 10**12 + 1])
@pytest.mark.parametrize("weights", [[1.0], [1, 1, 1], [0.1, 0.2, 0.7], [2, 1], [1e-9, 1, 1e6]])
def test_shares_add_up_exactly_and_none_is_off_by_a_token(total, weights):
    shares = share_tokens(total, weights)
    assert sum(shares) == total
    for share, weight in zip(shares, weights, strict=True):
        assert abs(share - total * weight / sum(weights)) < 1 + 1e-12 * total


def test_a_share_goes_to_the_largest_remainder():
    assert share_tokens(10, [2, 1]) == [7, 3]
    assert share_tokens(11, [2, 1]) == [7, 4]


@pytest.mark.parametrize("seed", range(4))
def test_whole_documents_drawn_in_parts_come_once_each_and_whole(seed):
    """An edge inside a document gives it to the part in which it begins, and to that part alone."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, 30, 40)
    corpus = replace(made_corpus(0, lengths), whole=True)
    total = corpus.label_tokens
    edges = [0, *sorted(rng.choice(np.arange(1, total), 5, replace=False).tolist()), total]
    parts = [draw([corpus], b - a, a, seed, 0) for a, b in itertools.pairwise(edges)]
    together = np.concatenate(parts)
    assert together.tolist() == draw([corpus], total, 0, seed, 0).tolist()
    assert sorted(together["length"].tolist()) == sorted(lengths.tolist())
