"""DSIR: the ratio of two bags of n-grams, and draws that follow it."""

import itertools
import math
import tracemalloc
from collections import Counter

import numpy as np
import pytest

from schemas.errors import UserError
from tasks.data.plan.importance import BUCKETS, bucket_ngrams, log_importance
from tasks.data.plan.mix import Corpus, count_labels, draw
from tasks.data.plan.plan import load_plan
from tasks.data.tokens.token_files import TokenPart
from tests.corpora import label_places, made_corpus, source, write_rows
from tests.tiny_base import prose
from tests.training.prepared import prepare_inputs, spec_of


def corpus_of(number: int, documents: list[list[int]]) -> tuple[Corpus, list[TokenPart]]:
    lengths = np.array([len(ids) for ids in documents])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    part = TokenPart(np.concatenate(documents).astype(np.uint16), offsets)
    return Corpus(number, np.zeros(len(lengths), np.int32), offsets[:-1], lengths), [part]


def test_the_weight_is_the_log_ratio_of_two_smoothed_bags_of_ngrams():
    texts = [[[1, 2, 3, 1, 2], [2, 3, 3]], [[1, 2, 9, 9], [9, 8, 7, 9, 9], [3, 3]]]
    (domain, first), (replay, second) = (corpus_of(n, documents) for n, documents in enumerate(texts))
    (found,) = log_importance([domain], [replay], [first, second])

    def grams(ids):
        return [(i,) for i in ids] + list(itertools.pairwise(ids))

    bags = [Counter(g for ids in documents for g in grams(ids)) for documents in texts]
    sizes = [sum(bag.values()) + BUCKETS for bag in bags]
    expected = [
        sum(math.log((bags[0][g] + 1) / sizes[0]) - math.log((bags[1][g] + 1) / sizes[1]) for g in grams(ids))
        for ids in texts[1]
    ]
    used = [int(bucket_ngrams([i])[0]) for i in (1, 2, 3, 7, 8, 9)]
    assert len(set(used)) == 6, "the example has no collision"
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert found[0] > found[1]


def test_memory_does_not_grow_with_the_number_of_documents():
    peaks = []
    for count in (500, 4_000):
        corpus, parts = corpus_of(0, [np.arange(200) % (7 + number % 90) for number in range(count)])
        tracemalloc.start()
        log_importance([corpus], [corpus], [parts])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 2**20  # n-grams of all would take 16 bytes a token: 11 MB more


def test_ngrams_spread_over_all_buckets():
    counts = np.bincount(bucket_ngrams(np.arange(60_000)), minlength=BUCKETS)
    assert counts.max() < 6 * counts.mean()
    assert (counts > 0).all()


def weighted(lengths, weights):
    corpus = made_corpus(0, np.asarray(lengths))
    return Corpus(corpus.source, corpus.parts, corpus.starts, corpus.lengths, log_weights=np.asarray(weights))


def test_a_weighted_draw_is_exact_seeded_and_without_replacement():
    lengths = np.random.default_rng(1).integers(2, 40, 30)
    corpus = weighted(lengths, np.linspace(-3, 3, 30))
    places = label_places(draw([corpus], corpus.label_tokens, 0, 7, 1))
    assert len(places) == len(set(places)) == corpus.label_tokens
    assert count_labels(draw([corpus], 37, 11, 7, 1)) == 37
    assert label_places(draw([corpus], 37, 11, 7, 1)) == places[11:48]
    assert label_places(draw([corpus], 37, 11, 8, 1)) != places[11:48]


def test_the_first_document_is_drawn_in_proportion_to_its_weight():
    corpus = weighted([5, 5, 5], np.log([1.0, 2.0, 5.0]))
    firsts = Counter(label_places(draw([corpus], 4, 0, seed, 1))[0] for seed in range(2000))
    shares = sorted(count / 2000 for count in firsts.values())
    assert shares == pytest.approx([1 / 8, 2 / 8, 5 / 8], abs=0.04)


@pytest.fixture(scope="module")
def like_and_unlike(tmp_path_factory):
    """A folder whose replay is half English as the domain is, half Chinese, and a base."""
    from tests.tiny_base import make_base

    folder = tmp_path_factory.mktemp("importance")
    base = make_base(folder / "base")
    spec_of(folder, base)  # writes the domain
    write_rows(folder / "like.jsonl", [f"Once more: {line[40:200]}" for line in prose("en_*")])
    write_rows(folder / "unlike.jsonl", [line[:100] for line in prose("zh_*")[20:]])
    return folder, base


@pytest.mark.parametrize(("importance", "more"), [("towards_domain", True), ("away_from_domain", False)])
def test_documents_like_the_domain_come_first_or_last(like_and_unlike, importance, more):
    folder, base = like_and_unlike
    replay = [source(folder / "*like.jsonl")]

    def share_of_english(mixture):
        spec = spec_of(folder, base, mixture={"replay_ratio": 0.1, **mixture}, replay=replay)
        inputs = prepare_inputs(folder, spec)
        pieces, _ = load_plan(inputs.plan)
        drawn = pieces[pieces["source"] == 1]
        english = drawn["length"][drawn["part"] == 0].sum()  # a part per file: like.jsonl, then unlike.jsonl
        report = inputs.plan.facts["report"]
        assert report["achieved_ratio"] == pytest.approx(0.1, abs=0.001)
        return english / drawn["length"].sum()

    plain, chosen = share_of_english({}), share_of_english({"importance": importance})
    assert chosen > plain + 0.05 if more else chosen < plain - 0.05


def test_importance_that_chooses_nothing_is_refused(like_and_unlike):
    folder, base = like_and_unlike
    write_rows(folder / "few.jsonl", [line[:100] for line in prose("zh_*")[20:24]])
    spec = spec_of(
        folder,
        base,
        mixture={"replay_ratio": 0.5, "importance": "towards_domain"},
        replay=[source(folder / "few.jsonl")],
    )
    with pytest.raises(UserError, match="importance chooses none of them"):
        prepare_inputs(folder, spec)
