"""The loss of a model that knows nothing but how often each token occurs: a suite at it can show no forgetting."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from schemas.errors import UserError, UserErrors
from schemas.scores import AnswerSuite, AnySuite, Scores, SuiteScores

Ids = Sequence[int] | npt.NDArray[np.integer]

ALPHAS = (1.0, 0.1, 0.01, 0.001)
"""Smoothing strengths tried. The best is taken: the floor is the strongest model of its kind, whatever the vocabulary."""


def unigram_floor(token_lists: Sequence[Ids], vocab_size: int) -> float:
    """Measure nats per label token of a unigram model of the suite itself, leaving one document out.

    Document d is scored by p(w) = (c_w - c_dw + alpha) / (N - n_d + alpha V): counts of all other documents.
    A document's first token is context, not a label. A suite of one document has no others: its floor is log V.

    Raises:
        ValueError: no document has a label token.
    """
    labels = [np.asarray(ids, dtype=np.int64)[1:] for ids in token_lists]
    lengths = np.array([len(ids) for ids in labels], dtype=np.int64)  # (documents,)
    num_tokens = int(lengths.sum())
    if num_tokens == 0:
        raise ValueError("no document has a label token")
    tokens = np.concatenate(labels)
    document = np.repeat(np.arange(len(labels)), lengths)
    pairs, inside = np.unique(document * vocab_size + tokens, return_counts=True)
    owner, word = np.divmod(pairs, vocab_size)
    outside = np.bincount(tokens, minlength=vocab_size)[word] - inside
    others = num_tokens - lengths[owner]
    nats = [
        -np.sum(inside * np.log((outside + alpha) / (others + alpha * vocab_size))) / num_tokens
        for alpha in ALPHAS
    ]
    return float(min(nats))


def refuse_floor(scores: Scores) -> None:
    """Refuse general suites on which the base is no better than the floor: there is no skill to forget.

    A domain suite may be at its floor: the base has yet to learn it. A yardstick in the base's place has no skill, and
    none is asked of it.

    Raises:
        UserErrors: one for each such suite.
    """
    if scores.yardstick is not None:
        return
    errors = []
    for suite in scores.suites:
        base, higher = scores.value(suite, "base"), scores.measure_of(suite).higher_is_better
        if suite.kind == "general" and (base <= suite.floor if higher else base >= suite.floor):
            errors.append(_floor_error(scores, suite))
    if errors:
        raise UserErrors(errors)


def _floor_error(scores: Scores, suite: AnySuite) -> UserError:
    if not isinstance(suite, SuiteScores):
        return UserError(
            f"the base model has no skill on suite '{suite.name}' that could be forgotten: its {scores.unit} is"
            f" {suite.value('base', scores.unit):.3f}, no better than the {suite.floor:.3f} of always giving one answer",
            f"evaluation.general, suite '{suite.name}'",
            f"give {'prompts' if isinstance(suite, AnswerSuite) else 'labelled rows'} that the base model can answer, or"
            " remove this suite",
        )
    return UserError(
        f"the base model has no skill on suite '{suite.name}' that could be forgotten: its loss is"
        f" {suite.nats_per_token('base'):.3f} nats per token, no better than the {suite.floor:.3f} of a model"
        " that only knows how often each token occurs",
        f"evaluation.general, suite '{suite.name}'",
        "give general text of a kind and language that the base model has learnt, or remove this suite",
    )
