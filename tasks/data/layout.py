"""Lay out a whole training run: every sequence of every step, as pieces of documents, domain and replay mixed."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.errors import UserError
from schemas.run import RunSpec
from tasks.data.mix import Corpus, Pieces, count_labels, cut_windows, draw, share_tokens
from tasks.data.pack import pack_best_fit
from tasks.data.sources import PreparedSource

GUESSES = 8  # by proportion, before the search for the length of a run only halves

Ranges = tuple[tuple[int, int], ...]
"""(start, stop) in label tokens of every stream: the domain, then each replay source."""
Packed = dict[tuple[int, Ranges], tuple[Pieces, npt.NDArray[np.int64]]]
"""(epoch, its ranges) -> its pieces in training order, and how many each sequence holds."""


@dataclass(frozen=True)
class Lengths:
    """How much is trained, in label tokens."""

    domain: int
    replay: int

    @classmethod
    def of(cls, total: int, replay_ratio: float) -> "Lengths":
        replay = round(total * replay_ratio)
        return cls(total - replay, replay)


def lay_out(
    spec: RunSpec, sources: Sequence[PreparedSource], corpora: Sequence[Corpus]
) -> tuple[Pieces, npt.NDArray[np.int64], Lengths]:
    """Pieces in training order, offsets of the sequences among them, and the lengths that were met.

    Raises:
        UserError: the training is so short that not one token of it would be domain text.
    """
    training = spec.training
    ratio = spec.mixture.ratio
    whole = corpora[0].whole
    if training.steps is not None:
        fit = _fit_whole if whole else _fit_steps
        pieces, sequences, lengths = fit(spec, sources, corpora, training.steps)
    else:
        if training.tokens is not None:
            lengths = Lengths.of(training.tokens, ratio)
        else:
            assert training.epochs is not None
            wanted = round(training.epochs * _domain_tokens(sources, corpora))
            lengths = Lengths(wanted, round(wanted * ratio / (1 - ratio)))
        pieces, sequences = _sequences(spec, sources, corpora, lengths, {})
    if not lengths.domain:
        raise UserError(
            "the training is too short: not one of its tokens is domain text",
            "training",
            f"raise {next(key for key in ('tokens', 'epochs', 'steps') if getattr(training, key))}"
            " or lower mixture.replay_ratio",
        )
    return pieces, sequences, lengths


def _domain_tokens(sources: Sequence[PreparedSource], corpora: Sequence[Corpus]) -> int:
    """Domain label tokens of one pass."""
    return sum(c.label_tokens for s, c in zip(sources, corpora, strict=True) if s.role == "domain")


def _fit_steps(
    spec: RunSpec, sources: Sequence[PreparedSource], corpora: Sequence[Corpus], steps: int
) -> tuple[Pieces, npt.NDArray[np.int64], Lengths]:
    """Find the most label tokens whose sequences still fit the steps: one more would need a sequence more.

    The number of sequences grows with the tokens almost evenly, so a few guesses by proportion come within a
    sequence or two of the edge, and halving finds it. Passes over the domain that a guess leaves unchanged are not
    packed again.
    """
    training, ratio = spec.training, spec.mixture.ratio
    per_step = training.batch_tokens // training.sequence_length
    wanted = steps * per_step
    fits, exceeds = 0, wanted * (training.sequence_length - 1) + 1  # a sequence of n ids holds n - 1 labels
    guess, guesses = exceeds - 1, 0
    packed: Packed = {}
    found = above = None
    while exceeds - fits > 1:
        lengths = Lengths.of(guess, ratio)
        pieces, sequences = _sequences(spec, sources, corpora, lengths, packed)
        count = len(sequences) - 1
        if count > wanted:
            exceeds, above = guess, (pieces, sequences)
        else:
            fits = guess
            if count > wanted - per_step:
                found = pieces, sequences, lengths
        guesses += 1
        guess += int((wanted - count + 0.5) * guess / max(count, 1))
        if guesses > GUESSES or exceeds - fits <= 2 * training.sequence_length or not fits < guess < exceeds:
            guess = (fits + exceeds) // 2
    if found is None:  # one token more took two sequences more, and the steps end between them
        assert above is not None
        found = _keep(sources, *above, wanted)
    return found


def _keep(
    sources: Sequence[PreparedSource], pieces: Pieces, sequences: npt.NDArray[np.int64], wanted: int
) -> tuple[Pieces, npt.NDArray[np.int64], Lengths]:
    """The first `wanted` sequences of a layout. Those of a pass are shuffled: a random share of the last is left out."""
    sequences = sequences[: wanted + 1]
    pieces = pieces[: sequences[-1]]
    roles = np.array([source.role == "domain" for source in sources])
    domain = count_labels(pieces[roles[pieces["source"]]])
    return pieces, sequences, Lengths(domain, count_labels(pieces) - domain)


def _fit_whole(
    spec: RunSpec, sources: Sequence[PreparedSource], corpora: Sequence[Corpus], steps: int
) -> tuple[Pieces, npt.NDArray[np.int64], Lengths]:
    """Lay out more whole documents than the steps hold, and keep as many sequences as they do."""
    training = spec.training
    wanted = steps * (training.batch_tokens // training.sequence_length)
    guess = (wanted + len(sources) + 1) * training.sequence_length
    lengths = Lengths.of(guess, spec.mixture.ratio)
    return _keep(sources, *_sequences(spec, sources, corpora, lengths, {}), wanted)


def _sequences(
    spec: RunSpec,
    sources: Sequence[PreparedSource],
    corpora: Sequence[Corpus],
    lengths: Lengths,
    packed: Packed,
) -> tuple[Pieces, npt.NDArray[np.int64]]:
    """Pack one domain epoch after another, each with its share of replay, and shuffle its sequences.

    `packed` remembers the epochs that end before the run does: another length of run has the same.
    """
    available = _domain_tokens(sources, corpora)
    epochs = max(1, math.ceil(lengths.domain / available))
    edges = [min(epoch * available, lengths.domain) for epoch in range(epochs + 1)]
    replay = _replay_edges(spec, replay_weights(spec, sources, corpora), lengths, edges)
    laid = []
    for epoch, stops in enumerate(itertools.pairwise(zip(edges, *replay, strict=True))):
        ranges = tuple(zip(*stops, strict=True))
        key = (epoch, ranges)
        laid.append(packed.get(key) or _pack_epoch(spec, sources, corpora, epoch, ranges))
        if epoch < epochs - 1:
            packed[key] = laid[-1]
    pieces, counts = zip(*laid, strict=True)
    return np.concatenate(pieces), np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int64)


def replay_weights(
    spec: RunSpec, sources: Sequence[PreparedSource], corpora: Sequence[Corpus]
) -> list[float]:
    """Weight of each replay source: its own, times its size to the power 1 / temperature if there is one."""
    replay = [(s, c) for s, c in zip(sources, corpora, strict=True) if s.role == "replay"]
    if spec.mixture.temperature is None:
        return [source.source.weight for source, _ in replay]
    most = max((corpus.label_tokens for _, corpus in replay), default=1)
    power = 1 / spec.mixture.temperature
    return [source.source.weight * (corpus.label_tokens / most) ** power for source, corpus in replay]


def _replay_edges(
    spec: RunSpec, weights: Sequence[float], lengths: Lengths, domain_edges: Sequence[int]
) -> list[list[int]]:
    """How far each replay source has come when the domain stands at each edge; at the last, at its exact share."""
    if not weights:
        return []
    a_domain_token = spec.mixture.ratio / (1 - spec.mixture.ratio) / sum(weights)
    return [
        [*(min(share, round(edge * a_domain_token * weight)) for edge in domain_edges[:-1]), share]
        for weight, share in zip(weights, share_tokens(lengths.replay, weights), strict=True)
    ]


def _pack_epoch(
    spec: RunSpec,
    sources: Sequence[PreparedSource],
    corpora: Sequence[Corpus],
    epoch: int,
    ranges: Ranges,
) -> tuple[Pieces, npt.NDArray[np.int64]]:
    """Pieces of one epoch in training order, and the number of them in each sequence.

    A short replay source that comes round again within the epoch may meet its own copy in a sequence; like all
    documents there, the two do not see each other.
    """
    seed, length = spec.training.seed, spec.training.sequence_length
    domain = [corpus for source, corpus in zip(sources, corpora, strict=True) if source.role == "domain"]
    replay = [corpus for source, corpus in zip(sources, corpora, strict=True) if source.role == "replay"]
    streams = [domain, *([corpus] for corpus in replay)]
    drawn = [
        draw(corpora_of_stream, stop - start, start, seed, stream)
        for stream, (corpora_of_stream, (start, stop)) in enumerate(zip(streams, ranges, strict=True))
    ]
    pieces = cut_windows(np.concatenate(drawn), length)
    packs = pack_best_fit(pieces["length"].astype(np.int64), length)
    shuffled = [packs[pack] for pack in np.random.default_rng([seed, epoch, 1]).permutation(len(packs))]
    order = np.fromiter(itertools.chain.from_iterable(shuffled), np.int64, len(pieces))
    return pieces[order], np.fromiter(map(len, shuffled), np.int64, len(shuffled))
