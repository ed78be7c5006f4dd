"""N-gram baselines: proper probabilities, better with context, fast enough."""

import math

import numpy as np
import pytest

from tasks.evaluation.baselines import fit_ngram, ngram_bits_per_byte, ngram_nats, unigram_bits_per_byte


@pytest.fixture(scope="module")
def chain() -> list[np.ndarray]:
    """Documents of a second-order chain over 12 tokens: the next token depends on the last two."""
    generator = np.random.default_rng(4)
    table = generator.dirichlet(np.full(12, 0.15), size=(12, 12))
    documents = []
    for _ in range(120):
        ids = [0, 1]
        while len(ids) < 60:
            ids.append(int(generator.choice(12, p=table[ids[-2], ids[-1]])))
        documents.append(np.array(ids))
    return documents


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("context", [[0], [0, 1], [3, 3, 3, 3], [11, 0, 7], [14, 14], [2, 14, 5]])
def test_probabilities_sum_to_one_over_the_vocabulary(chain, order: int, context: list[int]):
    """Also behind contexts that training never saw (14 occurs nowhere)."""
    model = fit_ngram(chain[:20], 15, order)
    nats = ngram_nats(model, [[*context, token] for token in range(15)])
    last = nats.reshape(15, len(context))[:, -1]
    assert np.exp(-last).sum() == pytest.approx(1.0, abs=1e-12)
    assert np.isfinite(last).all()


def test_a_bigram_equals_the_formula_worked_by_hand():
    """Training pairs a->b twice, a->c once; modified Kneser-Ney with the discounts of so tiny a text (0.5 or clipped)."""
    a, b, c = 0, 1, 2
    model = fit_ngram([[a, b], [a, b], [a, c]], 3, 2)
    # bigram counts 2 and 1: n1 = n2 = 1, Y = 1/3, D1 = 1 - 2/3 = 1/3, D2 = 2 - 0 clipped to 1.9
    # unigram continuation counts: b 1, c 1: n1 = 2, Y = 1, D1 = 1 - 0 clipped to 0.9
    lower_b = (1 - 0.9) / 2 + (0.9 + 0.9) / 2 / 3
    p_b = (2 - 1.9) / 3 + (1.9 + 1 / 3) / 3 * lower_b
    assert ngram_nats(model, [[a, b]])[0] == pytest.approx(-math.log(p_b), abs=1e-12)


def test_each_order_up_to_the_chains_own_predicts_better(chain):
    train, heldout = chain[:100], chain[100:]
    scores = [ngram_bits_per_byte(train, heldout, 1000, 12, order=order) for order in (1, 2, 3)]
    assert scores[0] > scores[1] > scores[2]
    assert unigram_bits_per_byte(train, heldout, 1000, 12) == scores[0]


def test_nothing_is_learnt_across_documents():
    """1 follows 0 inside every document; 2 follows 1 only across their border."""
    documents = [[2, 0, 1]] * 30
    inside, across = (ngram_nats(fit_ngram(documents, 4, 2), [pair])[0] for pair in ([0, 1], [1, 2]))
    assert inside < 0.2
    assert across > math.log(4), "no better than a guess"


def test_bits_per_byte_of_an_unpredictable_text_are_its_entropy():
    generator = np.random.default_rng(1)
    train, heldout = ([generator.integers(0, 256, 1001) for _ in range(count)] for count in (50, 5))
    assert unigram_bits_per_byte(train, heldout, 5000, 256) == pytest.approx(8.0, abs=0.02)


def test_a_token_outside_the_vocabulary_is_refused():
    with pytest.raises(ValueError, match="outside the vocabulary of 4"):
        fit_ngram([[0, 4, 1]], 4, 3)
    with pytest.raises(ValueError, match="outside the vocabulary of 4"):
        fit_ngram([[0, -1, 1]], 4, 3)


def test_no_labels_and_no_order_are_refused():
    with pytest.raises(ValueError, match="no document has a label token"):
        fit_ngram([[0], []], 4, 3)
    with pytest.raises(ValueError, match="order must be at least 1"):
        fit_ngram([[0, 1]], 4, 0)


def test_two_million_tokens_are_counted():
    generator = np.random.default_rng(2)
    tokens = generator.zipf(1.2, 2_000_000) % 8192
    documents = np.split(tokens, 2000)
    score = ngram_bits_per_byte(documents[:1900], documents[1900:], 400_000, 8192, order=3)
    assert 0 < score < 13 / 4


def test_a_story_model_beats_the_trigram_and_the_trigram_the_unigram(
    stories, stories_ids, training_stories_ids
):
    from tasks.evaluation.score import score_documents

    train = training_stories_ids
    num_bytes = sum(len(stories[1].decode(ids, skip_special_tokens=True).encode()) for ids in stories_ids)
    nats = score_documents(stories[0], stories_ids, 512, 8192, "cpu").sum()
    model = nats / math.log(2) / num_bytes
    assert (
        model
        < ngram_bits_per_byte(train, stories_ids, num_bytes, 512)
        < unigram_bits_per_byte(train, stories_ids, num_bytes, 512)
    )
