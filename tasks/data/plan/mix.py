"""Choose what is trained, to the token: which pieces of which documents, in which epoch.

Counts are label tokens: a document of n ids has n - 1 (its first id is only ever context), an instruction those of its
response. A document longer than a sequence is cut into windows that overlap by one id, so its label tokens still count
once each. An instruction is not: no token of a response is learnt without its prompt.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tasks.data.tokens.token_files import TokenPart

PIECE = np.dtype(
    [
        ("source", np.int16),
        ("part", np.int32),
        ("start", np.int64),
        ("length", np.int32),
        ("context", np.int32),
    ]
)
"""Ids tokens[start : start + length] of one part of one source; all but the first `context` (1 in running text) are labels."""

Pieces = npt.NDArray[np.void]  # (pieces,) of PIECE


@dataclass(frozen=True)
class Corpus:
    """The trainable documents of one source."""

    source: int
    """Number of the source among all training sources, domain first."""
    parts: npt.NDArray[np.int32]  # (documents,)
    starts: npt.NDArray[np.int64]  # (documents,)
    lengths: npt.NDArray[np.int64]  # (documents,)
    cut_off: int = 0
    """Label tokens of documents beyond the longest that is read."""
    whole: bool = False
    """Documents are never split: what would cut one takes it whole or not at all."""
    log_weights: npt.NDArray[np.float64] | None = None
    """(documents,) of importance resampling: each epoch draws without replacement by these; None draws all alike."""
    contexts: npt.NDArray[np.int64] | None = None
    """(documents,) of instructions: ids of the prompt; of other documents the first id is context."""
    no_room: int = 0
    """Instructions whose prompt alone fills a sequence: all their label tokens are cut off."""

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Label tokens of each document, (documents,)."""
        return self.lengths - (1 if self.contexts is None else self.contexts)

    @property
    def label_tokens(self) -> int:
        return int(self.labels.sum())

    def take(self, chosen: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> "Corpus":
        """The same with the chosen documents alone: whether each is, (documents,), or their numbers, some more than once."""
        weights = None if self.log_weights is None else self.log_weights[chosen]
        return replace(
            self,
            parts=self.parts[chosen],
            starts=self.starts[chosen],
            lengths=self.lengths[chosen],
            log_weights=weights,
            contexts=None if self.contexts is None else self.contexts[chosen],
        )


def collect(
    source: int,
    parts: Sequence[TokenPart],
    kept: Sequence[npt.NDArray[np.bool_]],
    longest: int | None = None,
) -> Corpus:
    """Collect the documents of a source that are trained on; a document without a label token has nothing to learn.

    `longest`: documents are rows that must not be cut into windows; what is longer is cut off after so many ids.
    """
    if parts and parts[0].contexts is not None:
        assert longest is not None
        return _collect_instructions(source, parts, kept, longest)
    numbers, starts, lengths = [], [], []
    for number, (part, keep) in enumerate(zip(parts, kept, strict=True)):
        rows = np.flatnonzero(keep & (np.diff(part.offsets) > 1))
        numbers.append(np.full(len(rows), number, np.int32))
        starts.append(part.offsets[rows])
        lengths.append(part.offsets[rows + 1] - part.offsets[rows])
    ids = np.concatenate(lengths)
    cut = ids if longest is None else np.minimum(ids, longest)
    return Corpus(
        source,
        np.concatenate(numbers),
        np.concatenate(starts),
        cut,
        int((ids - cut).sum()),
        longest is not None,
    )


def _collect_instructions(
    source: int, parts: Sequence[TokenPart], kept: Sequence[npt.NDArray[np.bool_]], longest: int
) -> Corpus:
    """Prompts with so much of their responses as fits behind them; a prompt that leaves no room has nothing to learn."""
    found = []
    for number, (part, keep) in enumerate(zip(parts, kept, strict=True)):
        rows = np.flatnonzero(keep)
        assert part.contexts is not None
        columns = (part.offsets[rows], np.diff(part.offsets)[rows], part.contexts[rows].astype(np.int64))
        found.append((np.full(len(rows), number, np.int32), *columns))
    numbers, starts, ids, contexts = (np.concatenate(column) for column in zip(*found, strict=True))
    cut = np.minimum(ids, longest)
    fits = contexts < cut
    cut_off = int((ids - np.maximum(cut, contexts)).sum())
    return Corpus(
        source,
        numbers[fits],
        starts[fits],
        cut[fits],
        cut_off,
        contexts=contexts[fits],
        no_room=int((~fits).sum()),
    )


def draw(corpora: Sequence[Corpus], tokens: int, offset: int, seed: int, stream: int) -> Pieces:
    """Draw label tokens [offset, offset + tokens) of the endless stream of a group of corpora.

    The stream goes through all documents in a fresh seeded order per epoch. Documents at the two ends are cut, so the
    number of label tokens is exact, and a stream drawn in parts is the stream drawn at once. Of an instruction that is
    cut, the second part has the prompt and the first part before it, as context. Whole documents are not cut: one
    belongs to the part of the stream that its first label token lies in.
    """
    chosen: list[Pieces] = []
    parts = np.concatenate([corpus.parts for corpus in corpora])
    starts = np.concatenate([corpus.starts for corpus in corpora])
    labels = np.concatenate([corpus.labels for corpus in corpora])
    context = np.concatenate([corpus.lengths - corpus.labels for corpus in corpora])
    from_prompt = corpora[0].contexts is not None
    source = np.concatenate([np.full(len(corpus.parts), corpus.source, np.int16) for corpus in corpora])
    total = int(labels.sum())
    while tokens:
        epoch, begin = divmod(offset, total)
        take = min(tokens, total - begin)
        order = _order(corpora, np.random.default_rng([seed, stream, epoch]))
        ends = np.cumsum(labels[order])
        first = int(np.searchsorted(ends, begin, side="right"))
        last = int(np.searchsorted(ends, begin + take, side="left"))
        rows = order[first : last + 1]
        pieces = np.zeros(len(rows), PIECE)
        pieces["source"], pieces["part"] = source[rows], parts[rows]
        pieces["start"], pieces["length"] = starts[rows], labels[rows] + context[rows]
        pieces["context"] = context[rows]
        head = begin - (int(ends[first - 1]) if first else 0)
        if corpora[0].whole:
            pieces = pieces[1:] if head else pieces
        else:
            if from_prompt:
                pieces["context"][0] += head
            else:
                pieces["start"][0] += head
                pieces["length"][0] -= head
            pieces["length"][-1] -= int(ends[last]) - (begin + take)
        chosen.append(pieces)
        offset, tokens = offset + take, tokens - take
    return np.concatenate(chosen) if chosen else np.zeros(0, PIECE)


def _order(corpora: Sequence[Corpus], random: np.random.Generator) -> npt.NDArray[np.int64]:
    """Documents of one epoch in the order they are drawn, without replacement.

    By weight, that is the order of log weight plus Gumbel noise (Gumbel top-k, as in DSIR's Algorithm 1).
    """
    if all(corpus.log_weights is None for corpus in corpora):
        return random.permutation(sum(len(corpus.lengths) for corpus in corpora))
    given = [np.zeros(len(c.lengths)) if c.log_weights is None else c.log_weights for c in corpora]
    noisy = np.concatenate(given) + random.gumbel(size=sum(map(len, given)))
    return np.argsort(-noisy, kind="stable")


def cut_windows(pieces: Pieces, sequence_length: int) -> Pieces:
    """Cut pieces longer than a sequence into windows that overlap by one id."""
    step = sequence_length - 1
    windows = np.maximum(1, -(-(pieces["length"].astype(np.int64) - 1) // step))
    repeated = np.repeat(pieces, windows)
    within = np.arange(len(repeated)) - np.repeat(np.cumsum(windows) - windows, windows)
    repeated["start"] += within * step
    repeated["length"] = np.minimum(repeated["length"] - within * step, sequence_length)
    return repeated


def count_labels(pieces: Pieces) -> int:
    """Label tokens of some pieces."""
    return int((pieces["length"].astype(np.int64) - pieces["context"]).sum())


def offsets_of(pieces: Pieces) -> npt.NDArray[np.int64]:
    """Where each piece begins if all are laid end to end, in ids, and where the last one ends: (pieces + 1,)."""
    return np.concatenate([[0], np.cumsum(pieces["length"].astype(np.int64))])


def share_tokens(total: int, weights: Sequence[float]) -> list[int]:
    """Share `total` by weight in whole tokens that add up exactly (largest remainder)."""
    exact = np.array(weights, float) / sum(weights) * total
    shares = np.floor(exact).astype(np.int64)
    for index in np.argsort(-(exact - shares), kind="stable")[: total - int(shares.sum())]:
        shares[index] += 1
    return [int(share) for share in shares]
