"""Data Selection for Language Models via Importance Resampling (DSIR; Xie et al., 2023,
https://arxiv.org/abs/2302.03169): replay documents by how likely they are to be like the domain, or unlike it.

Deviation: the n-grams are of token ids, not of words, so that every language is treated alike.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from schemas.errors import UserError
from schemas.results.artifacts import MixtureReport
from schemas.spec.run import RunSpec
from tasks.data.plan.mix import Corpus
from tasks.data.tokens.token_files import TokenPart
from tasks.data.validate.sources import PreparedSource

BUCKETS = 10_000  # as in the paper
_MIX = np.uint64(0x9E3779B97F4A7C15)  # spreads neighbouring ids over the buckets (Fibonacci hashing)


def weigh_documents(
    spec: RunSpec,
    sources: Sequence[PreparedSource],
    corpora: Sequence[Corpus],
    parts: Sequence[Sequence[TokenPart]],
) -> list[Corpus]:
    """The corpora, the documents of replay weighed by how like the domain they are, or unlike."""
    domain, replay = (
        [c for s, c in zip(sources, corpora, strict=True) if s.role == role] for role in ("domain", "replay")
    )
    sign = 1.0 if spec.mixture.importance == "towards_domain" else -1.0
    weights = log_importance(domain, replay, parts)
    weighed = {c.source: replace(c, log_weights=sign * w) for c, w in zip(replay, weights, strict=True)}
    return [weighed.get(corpus.source, corpus) for corpus in corpora]


def require_choice(spec: RunSpec, report: MixtureReport) -> None:
    """Stop where mixture.importance would choose nothing.

    Raises:
        UserError: every replay source is gone through whole, likely and unlikely documents alike.
    """
    if spec.mixture.importance and all(share.epochs >= 1 for share in report.replay):
        raise UserError(
            "every document of replay is trained on, so importance chooses none of them",
            "mixture.importance",
            "add replay text, lower mixture.replay_ratio, or remove importance",
        )


def log_importance(
    domain: Sequence[Corpus], replay: Sequence[Corpus], parts: Sequence[Sequence[TokenPart]]
) -> list[npt.NDArray[np.float64]]:
    """log p_domain(document) - log p_replay(document) of every document of the replay corpora, (documents,) each.

    Both are bags of hashed unigrams and bigrams with add-one smoothing; the ratio is the sum over the n-grams of a
    document. `parts`: tokens of every source, as `Corpus.source` numbers them.
    """
    likely, usual = (_frequencies(corpora, parts) for corpora in (domain, replay))
    ratio = np.log(likely) - np.log(usual)
    return [
        np.fromiter(
            (ratio[buckets].sum() for buckets in _documents(corpus, parts)), np.float64, len(corpus.lengths)
        )
        for corpus in replay
    ]


def _frequencies(corpora: Sequence[Corpus], parts: Sequence[Sequence[TokenPart]]) -> npt.NDArray[np.float64]:
    counts = np.ones(BUCKETS)
    for corpus in corpora:
        for buckets in _documents(corpus, parts):
            counts += np.bincount(buckets, minlength=BUCKETS)
    shares: npt.NDArray[np.float64] = counts / counts.sum()
    return shares


def _documents(corpus: Corpus, parts: Sequence[Sequence[TokenPart]]) -> Iterator[npt.NDArray[np.int64]]:
    """Buckets of the n-grams of each document; one document is held at a time: they take 16 bytes a token."""
    tokens = parts[corpus.source]
    for part, start, length in zip(corpus.parts, corpus.starts, corpus.lengths, strict=True):
        yield bucket_ngrams(tokens[part].tokens[start : start + length])


def bucket_ngrams(ids: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Bucket of every unigram and bigram of a document of n ids: (2 n - 1,)."""
    words = np.asarray(ids).astype(np.uint64) + np.uint64(1)
    pairs = (words[:-1] << np.uint64(32)) | words[1:]
    hashed = np.concatenate([words, pairs]) * _MIX  # wraps around, as it should
    return ((hashed >> np.uint64(32)) % np.uint64(BUCKETS)).astype(np.int64)
