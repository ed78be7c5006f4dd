"""The loss of a model that knows nothing but how often each token occurs: a suite at it can show no forgetting."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from schemas.errors import UserError, UserErrors
from schemas.results.scores import AnySuite, Scores

Ids = Sequence[int] | npt.NDArray[np.integer]

ALPHAS = (1.0, 0.1, 0.01, 0.001)
"""Smoothing strengths tried. The best is taken: the floor is the strongest model of its kind, whatever the vocabulary."""


BY_HEART = 0.02
"""Nats per token. A language model that guesses the next token of new text right 49 times in 50 does not exist."""


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


def refuse_ceiling(scores: Scores, min_gain: float) -> None:
    """Refuse a domain suite that leaves no room for the gain asked for, and general text that the base knows by heart.

    A loss cannot fall below 0, an accuracy or F1 cannot rise above 1. Text known by heart tells of memory, not of
    ability: it was in the base's own training, often with what it is meant to be compared with.

    Raises:
        UserErrors: one for each such suite.
    """
    if scores.yardstick is not None:
        return
    errors = []
    for suite in scores.suites:
        measure, base = scores.measure_of(suite), scores.value(suite, "base")
        higher = measure.higher_is_better
        room = 1 - base if higher else base
        if suite.kind == "domain" and room < min_gain:
            what = (
                f"no gain of {min_gain:g} is possible on suite '{suite.name}': the base's {measure.name} is"
                f" {base:.3f} already"
            )
            fix = "score harder or newer text of the domain, or lower promotion.min_gain"
            errors.append(UserError(what, f"evaluation, suite '{suite.name}'", fix))
        if suite.kind == "general" and not higher and base < BY_HEART:
            what = (
                f"the base model knows suite '{suite.name}' by heart: its loss is {base:.4f} nats per token"
            )
            fix = "give general text that was not in the base's own training"
            errors.append(UserError(what, f"evaluation.general, suite '{suite.name}'", fix))
    if errors:
        raise UserErrors(errors)


def _floor_error(scores: Scores, suite: AnySuite) -> UserError:
    measure, unit = scores.measure_of(suite), scores.unit_of(suite)
    score = f"{unit if suite.is_counted else measure.name} is {scores.value(suite, 'base'):.3f}{measure.unit}"
    return UserError(
        f"the base model has no skill on suite '{suite.name}' that could be forgotten: its {score}, no better than the"
        f" {suite.floor:.3f} of {suite.unskilled}",
        f"evaluation.general, suite '{suite.name}'",
        suite.skill_fix,
    )
