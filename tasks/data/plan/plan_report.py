"""What a plan adds up to: the mixture's report and the ledger of tokens."""

import math
from collections.abc import Sequence

import numpy as np

from schemas.results.artifacts import MixtureReport, ReplayShare, TokenLedger
from schemas.spec.run import RunSpec
from tasks.data.plan.mix import Corpus, count_labels, share_tokens
from tasks.data.plan.schedule import Layout, replay_weights
from tasks.data.validate.sources import PreparedSource


def describe_plan(
    spec: RunSpec,
    sources: Sequence[PreparedSource],
    corpora: Sequence[Corpus],
    laid: Layout,
    repeated: int = 0,
) -> tuple[MixtureReport, TokenLedger]:
    """Count what was laid out: from the pieces themselves, not from what was asked.

    `repeated`: domain label tokens that each pass has besides those of `corpora`.
    """
    training = spec.training
    pieces, sequences = laid.pieces, laid.sequences
    trained = [count_labels(pieces[pieces["source"] == corpus.source]) for corpus in corpora]
    by_role = {
        role: sum(t for s, t in zip(sources, trained, strict=True) if s.role == role)
        for role in ("domain", "replay")
    }
    available = {
        role: sum(c.label_tokens for s, c in zip(sources, corpora, strict=True) if s.role == role)
        for role in ("domain", "replay")
    }
    a_pass = available["domain"] + repeated
    replay = [(s, c, t) for s, c, t in zip(sources, corpora, trained, strict=True) if s.role == "replay"]
    weights = replay_weights(spec, sources, corpora)
    shares = share_tokens(laid.lengths.replay, weights) if replay else []
    positions = (len(sequences) - 1) * training.sequence_length
    filled_positions = int(pieces["length"].astype(np.int64).sum())
    total = by_role["domain"] + by_role["replay"]
    report = MixtureReport(
        requested_ratio=spec.mixture.ratio,
        achieved_ratio=by_role["replay"] / total,
        domain_tokens=by_role["domain"],
        replay_tokens=by_role["replay"],
        domain_epochs=by_role["domain"] / a_pass,
        replay=tuple(
            ReplayShare(
                path=s.source.path,
                requested_tokens=share,
                trained_tokens=t,
                epochs=t / c.label_tokens if c.label_tokens else 0.0,
            )
            for (s, c, t), share in zip(replay, shares, strict=True)
        ),
        sequences=len(sequences) - 1,
        sequence_length=training.sequence_length,
        fill_ratio=filled_positions / positions,
        steps=math.ceil((len(sequences) - 1) * training.sequence_length / training.batch_tokens),
        sequences_per_step=training.batch_tokens // training.sequence_length,
    )
    domain_filled = by_role["domain"] - laid.asked.domain
    ledger = TokenLedger(
        domain=available["domain"],
        replay=available["replay"],
        domain_trained=by_role["domain"],
        replay_trained=by_role["replay"],
        truncated=_truncated(by_role["domain"] - domain_filled, a_pass) + sum(c.cut_off for c in corpora),
        padding=positions - filled_positions,
        repeated=repeated,
        domain_filled=domain_filled,
        replay_filled=by_role["replay"] - laid.asked.replay,
    )
    return report, ledger


def _truncated(trained: int, a_pass: int) -> int:
    """Domain label tokens that the last, unfinished pass over the domain did not reach."""
    return -trained % a_pass
