"""Lay out a whole training run: every sequence of every step, as pieces of documents, domain and replay mixed."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.errors import UserError
from schemas.spec.run import RunSpec
from schemas.spec.training import MAX_TOKENS
from tasks.data.plan.mix import Corpus, Pieces, count_labels, cut_windows, draw, share_tokens
from tasks.data.plan.order import Epoch, order_sequences
from tasks.data.plan.pack import pack_best_fit
from tasks.data.validate.sources import PreparedSource

MAX_PASSES = 100_000
"""Over the domain: more is a slip of the pen, as more than MAX_TOKENS is."""
GUESSES = 8  # by proportion, before the search for the length of a run only halves

Ranges = tuple[tuple[int, int], ...]
"""(start, stop) in label tokens of every stream: the domain, then each replay source."""
Packed = dict[tuple[int, Ranges], Epoch]
"""(epoch, its ranges) -> what was packed."""


@dataclass(frozen=True)
class Lengths:
    """How much is trained, in label tokens."""

    domain: int
    replay: int

    @classmethod
    def of(cls, total: int, replay_ratio: float) -> "Lengths":
        replay = round(total * replay_ratio)
        return cls(total - replay, replay)


@dataclass(frozen=True)
class Layout:
    """A whole training run, in the order of training."""

    pieces: Pieces
    sequences: npt.NDArray[np.int64]
    """Offsets of the sequences among the pieces: (sequences + 1,)."""
    lengths: Lengths
    """As laid out."""
    asked: Lengths
    """As the specification says; the rest fills the last step."""


def lay_out(spec: RunSpec, sources: Sequence[PreparedSource], corpora: Sequence[Corpus]) -> Layout:
    """Lay out steps that are all full: what `tokens` or `epochs` leave of the last step is filled with what comes next.

    Raises:
        UserError: the training is so short that not one token of it would be domain text, or so long that its plan has no end.
    """
    training = spec.training
    per_step = training.batch_tokens // training.sequence_length
    asked = _asked_lengths(spec, sources, corpora)
    _require_bounds(spec, sources, corpora, asked)
    if asked is None:
        assert training.steps is not None
        epochs, lengths = _fit_steps(spec, sources, corpora, training.steps * per_step)
    else:
        _require_domain(spec, asked)
        epochs, lengths = _sequences(spec, sources, corpora, asked, {}), asked
        if missing := -num_sequences(epochs) % per_step:
            epochs, lengths = _fit_steps(spec, sources, corpora, num_sequences(epochs) + missing, asked)
    _require_domain(spec, lengths)
    is_domain = np.array([source.role == "domain" for source in sources])
    pieces, sequences = order_sequences(epochs, is_domain, per_step, training.seed)
    return Layout(pieces, sequences, lengths, asked or lengths)


def _asked_lengths(
    spec: RunSpec, sources: Sequence[PreparedSource], corpora: Sequence[Corpus]
) -> Lengths | None:
    """Label tokens that `tokens` or `epochs` ask for; None where steps are counted."""
    training, ratio = spec.training, spec.mixture.ratio
    if training.steps is not None:
        return None
    if training.tokens is not None:
        return Lengths.of(training.tokens, ratio)
    assert training.epochs is not None
    wanted = round(training.epochs * _domain_tokens(sources, corpora))
    return Lengths(wanted, round(wanted * ratio / (1 - ratio)))


def _require_bounds(
    spec: RunSpec, sources: Sequence[PreparedSource], corpora: Sequence[Corpus], asked: Lengths | None
) -> None:
    """Refuse what `tokens` or `steps` make of a small domain, and `epochs` of a large one: a plan holds every piece."""
    training, available = spec.training, _domain_tokens(sources, corpora)
    total = asked or Lengths.of((training.steps or 0) * training.batch_tokens, spec.mixture.ratio)
    if total.domain > MAX_PASSES * available or total.domain + total.replay > MAX_TOKENS:
        length = next(key for key in ("tokens", "epochs", "steps") if getattr(training, key))
        raise UserError(
            f"the training is too long: {total.domain + total.replay:,} tokens, of which one pass over the domain has {available:,};"
            f" at most {MAX_PASSES:,} passes and {MAX_TOKENS:,} tokens are laid out",
            "training",
            f"lower training.{length}",
        )


def _require_domain(spec: RunSpec, lengths: Lengths) -> None:
    if not lengths.domain:
        raise UserError(
            "the training is too short: not one of its tokens is domain text",
            "training",
            f"raise {next(key for key in ('tokens', 'epochs', 'steps') if getattr(spec.training, key))}"
            " or lower mixture.replay_ratio",
        )


def _domain_tokens(sources: Sequence[PreparedSource], corpora: Sequence[Corpus]) -> int:
    """Domain label tokens of one pass."""
    return sum(c.label_tokens for s, c in zip(sources, corpora, strict=True) if s.role == "domain")


def _fit_steps(
    spec: RunSpec,
    sources: Sequence[PreparedSource],
    corpora: Sequence[Corpus],
    wanted: int,
    least: Lengths | None = None,
) -> tuple[list[Epoch], Lengths]:
    """Find the most label tokens, `least` or more, that are packed into `wanted` sequences: one more would need another.

    The number of sequences grows with the tokens almost evenly, so a few guesses by proportion come within a
    sequence or two of the edge, and halving finds it. Passes over the domain that a guess leaves unchanged are not
    packed again.
    """
    training, ratio = spec.training, spec.mixture.ratio
    exceeds = wanted * (training.sequence_length - 1) + 1  # a sequence of n ids holds n - 1 labels
    packed: Packed = {}
    if corpora[0].whole:  # whole documents: lay out more than there is room for
        lengths = Lengths.of(exceeds + (len(sources) + 1) * training.sequence_length, ratio)
        return _keep(sources, _sequences(spec, sources, corpora, lengths, packed), wanted)
    fits = least.domain + least.replay if least else 0
    guess, guesses = exceeds - 1, 0
    found = above = None
    while exceeds - fits > 1:
        lengths = Lengths.of(guess, ratio)
        epochs = _sequences(spec, sources, corpora, lengths, packed)
        count = num_sequences(epochs)
        if count > wanted:
            exceeds, above = guess, epochs
        else:
            fits = guess
            if count == wanted:
                found = epochs, lengths
        guesses += 1
        guess += int((wanted - count + 0.5) * guess / max(count, 1))
        if guesses > GUESSES or exceeds - fits <= 2 * training.sequence_length or not fits < guess < exceeds:
            guess = (fits + exceeds) // 2
    if found is None:  # one token more took two sequences more, and the steps end between them
        assert above is not None
        found = _keep(sources, above, wanted)
    return found


def _keep(
    sources: Sequence[PreparedSource], epochs: Sequence[Epoch], wanted: int
) -> tuple[list[Epoch], Lengths]:
    """The first `wanted` sequences. Those of a pass are shuffled: a random share of the last is left out."""
    kept: list[Epoch] = []
    for pieces, counts in epochs:
        counts = counts[: wanted - num_sequences(kept)]
        kept.append((pieces[: counts.sum()], counts))
    is_domain = np.array([source.role == "domain" for source in sources])
    domain = sum(count_labels(pieces[is_domain[pieces["source"]]]) for pieces, _ in kept)
    return kept, Lengths(domain, sum(count_labels(pieces) for pieces, _ in kept) - domain)


def num_sequences(epochs: Sequence[Epoch]) -> int:
    """Sequences of all passes."""
    return sum(len(counts) for _, counts in epochs)


def _sequences(
    spec: RunSpec,
    sources: Sequence[PreparedSource],
    corpora: Sequence[Corpus],
    lengths: Lengths,
    packed: Packed,
) -> list[Epoch]:
    """Pack one domain epoch after another, each with its share of replay, and shuffle its sequences.

    `packed` remembers the epochs that end before the run does: another length of run has the same.
    """
    available = _domain_tokens(sources, corpora)
    epochs = max(1, math.ceil(lengths.domain / available))
    edges = [min(epoch * available, lengths.domain) for epoch in range(epochs + 1)]
    replay = _replay_edges(spec, replay_weights(spec, sources, corpora), lengths, edges)
    laid: list[Epoch] = []
    for epoch, stops in enumerate(itertools.pairwise(zip(edges, *replay, strict=True))):
        ranges = tuple(zip(*stops, strict=True))
        key = (epoch, ranges)
        laid.append(packed.get(key) or _pack_epoch(spec, sources, corpora, epoch, ranges))
        if epoch < epochs - 1:
            packed[key] = laid[-1]
    return laid


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
) -> Epoch:
    """Pieces of one epoch in a random order of its sequences, and the number of them in each.

    Pieces are shuffled before they are packed, so that those of one length, of whatever source, share sequences.

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
    pieces = pieces[np.random.default_rng([seed, epoch, 2]).permutation(len(pieces))]
    packs = pack_best_fit(pieces["length"].astype(np.int64), length)
    shuffled = [packs[pack] for pack in np.random.default_rng([seed, epoch, 1]).permutation(len(packs))]
    order = np.fromiter(itertools.chain.from_iterable(shuffled), np.int64, len(pieces))
    return pieces[order], np.fromiter(map(len, shuffled), np.int64, len(shuffled))
