"""Lay out the whole training run before it starts: every sequence of every step, as pieces of documents."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.artifacts import MixtureReport, ReplayShare, TokenLedger
from schemas.errors import UserError
from schemas.run import RunSpec
from tasks.data.divide import Fate, load_fates
from tasks.data.mix import PIECE, Corpus, Pieces, collect, count_labels, cut_windows, draw, share_tokens
from tasks.data.pack import pack_best_fit
from tasks.data.sources import PreparedSource
from tasks.data.tokenize import SpecialIds, TokenPart, open_tokens
from tasks.storage.hashing import code_version
from tasks.storage.steps import Step, StepPlan, run_step

CODE = ("tasks/data/plan.py", "tasks/data/mix.py", "tasks/data/pack.py", "tasks/data/tokenize.py")
DOMAIN_STREAM = 0


@dataclass(frozen=True)
class Lengths:
    """How much is trained, in label tokens."""

    domain: int
    replay: int

    @classmethod
    def of(cls, total: int, replay_ratio: float) -> "Lengths":
        replay = round(total * replay_ratio)
        return cls(total - replay, replay)


def plan_training(
    root: Path,
    spec: RunSpec,
    sources: Sequence[PreparedSource],
    tokenized: Sequence[Step],
    divided: Step,
    special: SpecialIds,
) -> Step:
    """Write `pieces.npy` (PIECE records) and `sequences.npy` (offsets into them), in the order of training."""
    training = spec.training
    plan = StepPlan(
        root=root,
        name="plan",
        inputs={"divided": divided.key, **{s.label: t.key for s, t in zip(sources, tokenized, strict=True)}},
        settings=[
            spec.mixture.model_dump(),
            [source.source.weight for source in sources],
            [
                training.tokens,
                training.epochs,
                training.steps,
                training.sequence_length,
                training.batch_tokens,
                training.seed,
            ],
        ],
        code=code_version(CODE),
    )

    def work(folder: Path) -> dict[str, Any]:
        corpora = collect_corpora(sources, tokenized, divided, special)
        pieces, sequences, lengths = lay_out(spec, sources, corpora)
        np.save(folder / "pieces.npy", pieces)
        np.save(folder / "sequences.npy", sequences)
        report, ledger = _describe(spec, sources, corpora, pieces, sequences, lengths)
        return {"report": report.model_dump(mode="json"), "tokens": ledger.model_dump(mode="json")}

    return run_step(plan, work)


def collect_corpora(
    sources: Sequence[PreparedSource], tokenized: Sequence[Step], divided: Step, special: SpecialIds
) -> list[Corpus]:
    """The trainable documents of every training source."""
    corpora = []
    for number, (source, step) in enumerate(zip(sources, tokenized, strict=True)):
        parts = open_tokens(step, len(source.parts), special.vocab_size)
        kept = [fate == Fate.ACCEPTED for fate in load_fates(divided, source)]
        corpora.append(collect(number, parts, kept))
        if not corpora[-1].label_tokens:
            raise UserError(
                f"no training row is left in {source.role} source {source.index}",
                source.source.path,
                "all its rows are duplicates, leaked or held out: see the ledger; add data or lower evaluation.domain_holdout",
            )
    return corpora


def lay_out(
    spec: RunSpec, sources: Sequence[PreparedSource], corpora: Sequence[Corpus]
) -> tuple[Pieces, npt.NDArray[np.int64], Lengths]:
    """Pieces in training order, offsets of the sequences among them, and the lengths that were met."""
    training = spec.training
    domain = [corpus for source, corpus in zip(sources, corpora, strict=True) if source.role == "domain"]
    ratio = spec.mixture.replay_ratio
    available = sum(corpus.label_tokens for corpus in domain)
    if training.tokens is not None:
        lengths = Lengths.of(training.tokens, ratio)
    elif training.epochs is not None:
        wanted = round(training.epochs * available)
        lengths = Lengths(wanted, round(wanted * ratio / (1 - ratio)))
    else:
        return _fit_steps(spec, sources, corpora)
    pieces, sequences = _sequences(spec, sources, corpora, lengths)
    return pieces, sequences, lengths


def _fit_steps(
    spec: RunSpec, sources: Sequence[PreparedSource], corpora: Sequence[Corpus]
) -> tuple[Pieces, npt.NDArray[np.int64], Lengths]:
    """Find the number of label tokens whose sequences fill exactly the steps asked for."""
    training = spec.training
    assert training.steps is not None
    wanted = training.steps * (training.batch_tokens // training.sequence_length)
    total = int(wanted * (training.sequence_length - 1) * 0.98)
    while True:
        lengths = Lengths.of(total, spec.mixture.replay_ratio)
        pieces, sequences = _sequences(spec, sources, corpora, lengths)
        if len(sequences) - 1 <= wanted:
            return pieces, sequences, lengths
        total = min(total - 1, int(total * wanted / (len(sequences) - 1)))


def _sequences(
    spec: RunSpec, sources: Sequence[PreparedSource], corpora: Sequence[Corpus], lengths: Lengths
) -> tuple[Pieces, npt.NDArray[np.int64]]:
    """Pack one domain epoch after another, each with its share of replay, and shuffle its sequences."""
    seed, length = spec.training.seed, spec.training.sequence_length
    domain = [corpus for source, corpus in zip(sources, corpora, strict=True) if source.role == "domain"]
    replay = [
        (source, corpus) for source, corpus in zip(sources, corpora, strict=True) if source.role == "replay"
    ]
    available = sum(corpus.label_tokens for corpus in domain)
    epochs = max(1, math.ceil(lengths.domain / available))
    shares = share_tokens(lengths.replay, [source.source.weight for source, _ in replay]) if replay else []
    ordered: list[Pieces] = []
    counts: list[int] = []
    for epoch in range(epochs):
        start, stop = epoch * available, min((epoch + 1) * available, lengths.domain)
        drawn = [draw(domain, stop - start, start, seed, DOMAIN_STREAM)]
        for stream, ((_, corpus), share) in enumerate(
            zip(replay, shares, strict=True), start=DOMAIN_STREAM + 1
        ):
            begin, end = (round(share * edge / lengths.domain) for edge in (start, stop))
            drawn.append(draw([corpus], end - begin, begin, seed, stream))
        pieces = cut_windows(np.concatenate(drawn), length)
        packs = pack_best_fit(pieces["length"].astype(np.int64), length)
        for pack in np.random.default_rng([seed, epoch, 1]).permutation(len(packs)):
            ordered.append(pieces[packs[pack]])
            counts.append(len(packs[pack]))
    flat = np.concatenate(ordered) if ordered else np.zeros(0, PIECE)
    return flat, np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _describe(
    spec: RunSpec,
    sources: Sequence[PreparedSource],
    corpora: Sequence[Corpus],
    pieces: Pieces,
    sequences: npt.NDArray[np.int64],
    lengths: Lengths,
) -> tuple[MixtureReport, TokenLedger]:
    """Count what was laid out: from the pieces themselves, not from what was asked."""
    training = spec.training
    trained = [count_labels(pieces[pieces["source"] == corpus.source]) for corpus in corpora]
    by_role = {
        role: sum(t for s, t in zip(sources, trained, strict=True) if s.role == role)
        for role in ("domain", "replay")
    }
    available = {
        role: sum(c.label_tokens for s, c in zip(sources, corpora, strict=True) if s.role == role)
        for role in ("domain", "replay")
    }
    replay = [(s, c, t) for s, c, t in zip(sources, corpora, trained, strict=True) if s.role == "replay"]
    shares = share_tokens(lengths.replay, [s.source.weight for s, _, _ in replay]) if replay else []
    positions = (len(sequences) - 1) * training.sequence_length
    filled = int(pieces["length"].astype(np.int64).sum())
    total = by_role["domain"] + by_role["replay"]
    report = MixtureReport(
        requested_ratio=spec.mixture.replay_ratio,
        achieved_ratio=by_role["replay"] / total,
        domain_tokens=by_role["domain"],
        replay_tokens=by_role["replay"],
        domain_epochs=by_role["domain"] / available["domain"],
        replay=tuple(
            ReplayShare(
                path=s.source.path, requested_tokens=share, trained_tokens=t, epochs=t / c.label_tokens
            )
            for (s, c, t), share in zip(replay, shares, strict=True)
        ),
        sequences=len(sequences) - 1,
        sequence_length=training.sequence_length,
        fill_ratio=filled / positions,
        steps=math.ceil((len(sequences) - 1) * training.sequence_length / training.batch_tokens),
        sequences_per_step=training.batch_tokens // training.sequence_length,
    )
    ledger = TokenLedger(
        domain=available["domain"],
        replay=available["replay"],
        domain_trained=by_role["domain"],
        replay_trained=by_role["replay"],
        truncated=_truncated(by_role["domain"], available["domain"]),
        padding=positions - filled,
    )
    return report, ledger


def _truncated(trained: int, available: int) -> int:
    """Domain label tokens that the last, unfinished pass over the domain did not reach."""
    return -trained % available


def load_plan(step: Step) -> tuple[Pieces, npt.NDArray[np.int64]]:
    """Pieces and sequence offsets, memory-mapped."""
    return np.load(step.folder / "pieces.npy", mmap_mode="r"), np.load(step.folder / "sequences.npy")


def open_sources(
    sources: Sequence[PreparedSource], tokenized: Sequence[Step], special: SpecialIds
) -> list[list[TokenPart]]:
    """Token parts of every training source, in the numbering of the pieces."""
    return [
        open_tokens(step, len(source.parts), special.vocab_size)
        for source, step in zip(sources, tokenized, strict=True)
    ]
