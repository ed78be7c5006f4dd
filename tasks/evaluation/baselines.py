"""Models without a network, over the same token ids: what a language model must beat.

Interpolated modified Kneser-Ney smoothing (Chen and Goodman, 1998,
https://dash.harvard.edu/handle/1/25104739).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ids = Sequence[int] | npt.NDArray[np.integer]
Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Level:
    """All n-grams of one length seen in training, numbered in the order of `keys`."""

    keys: Integers
    """(N,) sorted: number of the n-gram's context (its first n-1 tokens) * base + its last token."""
    discounted: Floats
    """(N,) max(c - D(c), 0) / c(context)."""
    backoff: Floats
    """(C,) per context: the probability mass its discounts free. 1 for a context that was never followed by a label."""


@dataclass(frozen=True)
class NGram:
    """A fitted model: `levels[k]` holds the n-grams of length k + 1."""

    vocab_size: int
    levels: tuple[_Level, ...]


def unigram_bits_per_byte(
    train_documents: Sequence[Ids], heldout_documents: Sequence[Ids], heldout_bytes: int, vocab_size: int
) -> float:
    """Score held-out documents by token frequencies alone. See `ngram_bits_per_byte`."""
    return ngram_bits_per_byte(train_documents, heldout_documents, heldout_bytes, vocab_size, order=1)


def ngram_bits_per_byte(
    train_documents: Sequence[Ids],
    heldout_documents: Sequence[Ids],
    heldout_bytes: int,
    vocab_size: int,
    order: int = 3,
) -> float:
    """Fit an n-gram model and return its bits per byte on held-out documents.

    A document's first id is context, not a label. heldout_bytes: UTF-8 bytes of all held-out documents together.

    Raises:
        ValueError: order below 1, an id outside the vocabulary, or no label token to fit.
    """
    model = fit_ngram(train_documents, vocab_size, order)
    return float(ngram_nats(model, heldout_documents).sum() / math.log(2) / heldout_bytes)


def fit_ngram(documents: Sequence[Ids], vocab_size: int, order: int) -> NGram:
    """Count n-grams of length 1 to `order` that end in a label token. Raises as `ngram_bits_per_byte`."""
    if order < 1:
        raise ValueError(f"order must be at least 1, got {order}")
    stream, is_label = _stream(documents, vocab_size, order)
    if not is_label.any():
        raise ValueError("no document has a label token")
    base = vocab_size + 1
    numbers = [np.zeros(len(stream), dtype=np.int64)]  # numbers[k][t]: number of the k-gram that ends at t
    grams: list[Integers] = []
    for length in range(1, order + 1):
        keys, number = np.unique(_shift(numbers[length - 1]) * base + stream, return_inverse=True)
        grams.append(keys)
        numbers.append(number.astype(np.int64))
    levels: list[_Level] = []
    for length in range(1, order + 1):
        ends = np.flatnonzero(is_label)
        if length < order:
            # Below the highest order an n-gram counts the different tokens before it, not its occurrences.
            ends = ends[np.unique(numbers[length + 1][ends], return_index=True)[1]]
        counts = np.bincount(numbers[length][ends], minlength=len(grams[length - 1]))
        num_contexts = len(grams[length - 2]) if length > 1 else 1
        levels.append(_smooth(grams[length - 1], counts, base, num_contexts))
    return NGram(vocab_size, tuple(levels))


def ngram_nats(model: NGram, documents: Sequence[Ids]) -> Floats:
    """Return -log p of every label token of the documents in turn, in nats, shape (labels,).

    p_n(w | context) = discounted(context, w) + backoff(context) p_(n-1)(w | shorter context), down to 1 / V.
    """
    stream, is_label = _stream(documents, model.vocab_size, len(model.levels))
    base = model.vocab_size + 1
    probability = np.full(len(stream), 1.0 / model.vocab_size)
    previous = np.zeros(len(stream), dtype=np.int64)
    for level in model.levels:
        context = _shift(previous)
        known = context >= 0
        probability = np.where(known, level.backoff[context], 1.0) * probability
        wanted = context * base + stream
        place = np.minimum(np.searchsorted(level.keys, wanted), len(level.keys) - 1)
        seen = known & (level.keys[place] == wanted)
        probability += np.where(seen, level.discounted[place], 0.0)
        previous = np.where(seen, place, -1)
    nats: Floats = -np.log(probability[is_label])
    return nats


def _smooth(keys: Integers, counts: Integers, base: int, num_contexts: int) -> _Level:
    """Discount counts by D(1), D(2), D(3+), each estimated from the counts of counts."""
    num = np.bincount(np.minimum(counts, 5), minlength=6)
    y = num[1] / (num[1] + 2 * num[2]) if num[1] else 0.5
    discounts = np.zeros(4)
    for c in (1, 2, 3):
        estimate = c - (c + 1) * y * num[c + 1] / num[c] if num[c] else 0.5
        discounts[c] = min(max(estimate, 0.1), c - 0.1)  # tiny texts give estimates outside [0, c]
    discount = discounts[np.minimum(counts, 3)]
    context = keys // base
    total = np.bincount(context, weights=counts, minlength=num_contexts)
    freed = np.bincount(context, weights=discount, minlength=num_contexts)
    followed = total > 0
    backoff = np.where(followed, freed / np.where(followed, total, 1.0), 1.0)
    discounted = (counts - discount) / np.where(followed, total, 1.0)[context]
    return _Level(keys, discounted, backoff)


def _stream(documents: Sequence[Ids], vocab_size: int, order: int) -> tuple[Integers, npt.NDArray[np.bool_]]:
    """Join documents, each behind order - 2 pads, so that no n-gram that ends in a label crosses a document."""
    pads = np.full(max(order - 2, 0), vocab_size, dtype=np.int64)
    parts: list[Integers] = []
    for ids in documents:
        document = np.asarray(ids, dtype=np.int64)
        if len(document) > 1:
            parts += [pads, document]
    if not parts:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.bool_)
    stream = np.concatenate(parts)
    is_label = np.ones(len(stream), dtype=np.bool_)
    lengths = np.array([len(part) for part in parts])
    starts = np.cumsum(lengths) - lengths  # of pads, document, pads, document, ...
    is_label[starts[1::2]] = False
    is_label[stream == vocab_size] = False
    if (
        stream.min() < 0
        or stream.max() > vocab_size
        or np.count_nonzero(stream == vocab_size) > lengths[::2].sum()
    ):
        raise ValueError(f"a token id lies outside the vocabulary of {vocab_size}")
    return stream, is_label


def _shift(numbers: Integers) -> Integers:
    """Number of the n-gram that ends one token earlier; the first position never serves a label."""
    return np.concatenate([numbers[:1], numbers[:-1]])
