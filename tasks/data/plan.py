"""The plan of a training run, written before it starts: every sequence of every step, and what it adds up to."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.artifacts import MixtureReport, ReplayShare, TokenLedger
from schemas.errors import UserError
from schemas.run import RunSpec
from tasks.data.balance import balance_classes, label_shares
from tasks.data.development import development_tokens, keep_development
from tasks.data.divide import Fate, load_fates
from tasks.data.importance import require_choice, weigh_documents
from tasks.data.labels import Labels
from tasks.data.layout import Lengths, lay_out, replay_weights
from tasks.data.mix import Corpus, Pieces, collect, count_labels, cut_windows, draw, share_tokens
from tasks.data.reservoir import require_new_rows, weigh_past
from tasks.data.sources import PreparedSource
from tasks.data.tokenize import SpecialIds, TokenPart, open_tokens
from tasks.storage.hashing import code_version
from tasks.storage.steps import Step, StepPlan, run_step

CODE = (
    "tasks/data/plan.py",
    "tasks/data/reservoir.py",
    "tasks/data/balance.py",
    "tasks/data/development.py",
    "tasks/data/importance.py",
    "tasks/data/layout.py",
    "tasks/data/mix.py",
    "tasks/data/pack.py",
    "tasks/data/tokenize.py",
)


DOCUMENTS_STREAM = 3  # of random numbers: which documents training.documents chooses
GENERAL_STREAM = 2**20
"""And the following: which general text remedies measure on; above every source's own stream."""
GENERAL, DEVELOPMENT = "general.npy", "development.npy"


def plan_training(
    root: Path,
    spec: RunSpec,
    sources: Sequence[PreparedSource],
    tokenized: Sequence[Step],
    divided: Step,
    special: SpecialIds,
    labels: Labels | None = None,
) -> Step:
    """Write `pieces.npy` (PIECE records) and `sequences.npy` (offsets into them), in the order of training; and what
    remedies measure on. `labels` are read where the mixture draws documents by them."""
    training = spec.training
    by_label = labels if spec.mixture.class_temperature is not None else None
    plan = StepPlan(
        root=root,
        name="plan",
        inputs={
            "divided": divided.key,
            **{s.label: t.key for s, t in zip(sources, tokenized, strict=True)},
            **({"labels": by_label.step.key} if by_label else {}),
        },
        settings=[
            spec.mixture.model_dump(exclude={"forgetting_budget", "choose_by", "proxies"}),
            [source.source.weight for source in sources],
            [
                training.tokens,
                training.epochs,
                training.steps,
                training.documents,
                training.sequence_length,
                training.batch_tokens,
                training.seed,
            ],
            [spec.record_of(source.source) for source in sources],
            spec.increments.model_dump() if spec.increments and spec.increment else None,
            general_tokens(spec),
            development_tokens(spec),
        ],
        code=code_version(CODE),
    )

    def work(folder: Path) -> dict[str, Any]:
        # heads label whole rows, and responses follow their prompts: what is longer than a sequence is cut off, never split
        longest = [
            training.sequence_length if spec.record_of(source.source) != "text" else None
            for source in sources
        ]
        corpora = collect_corpora(
            sources, tokenized, divided, special, longest, may_be_empty=spec.increment is not None
        )
        if spec.increment is not None:
            require_new_rows(sources, corpora)
        corpora, left_out = choose_documents(sources, corpora, training.documents, training.seed)
        kept = None
        if development_tokens(spec):
            corpora, kept = keep_development(spec, sources, corpora)
            np.save(folder / DEVELOPMENT, kept)
        if general_tokens(spec):
            np.save(folder / GENERAL, draw_general(spec, sources, corpora))
        if spec.mixture.importance:
            corpora = weigh_documents(spec, sources, corpora, open_sources(sources, tokenized, special))
        reachable, weighed = weigh_past(spec, sources, corpora)
        drawn = corpora
        if by_label:
            parts = open_sources(sources, tokenized, special)
            drawn = balance_classes(spec, sources, corpora, by_label, parts)
        pieces, sequences, lengths = lay_out(reachable, weighed, drawn)
        np.save(folder / "pieces.npy", pieces)
        np.save(folder / "sequences.npy", sequences)
        repeated = sum(c.label_tokens for c in drawn) - sum(c.label_tokens for c in corpora)
        report, ledger = _describe(spec, weighed, corpora, pieces, sequences, lengths, repeated)
        require_choice(spec, report)
        if by_label:
            shares = label_shares(sources, corpora, pieces, by_label, parts)
            report = report.model_copy(update={"labels": shares})
        counts = {
            "left_out": left_out,
            "development": 0 if kept is None else count_labels(kept),
            "no_room": sum(corpus.no_room for corpus in corpora),
        }
        ledger = ledger.model_copy(update=counts)
        return {"report": report.model_dump(mode="json"), "tokens": ledger.model_dump(mode="json")}

    return run_step(plan, work)


def collect_corpora(
    sources: Sequence[PreparedSource],
    tokenized: Sequence[Step],
    divided: Step,
    special: SpecialIds,
    longest: Sequence[int | None],
    may_be_empty: bool = False,
) -> list[Corpus]:
    """The trainable documents of every training source; `longest` as in `collect`, one a source.

    `may_be_empty`: in an increment, some have only rows that are not new.
    """
    corpora = []
    for number, (source, step) in enumerate(zip(sources, tokenized, strict=True)):
        parts = open_tokens(step, len(source.parts), special.vocab_size)
        kept = [fate == Fate.ACCEPTED for fate in load_fates(divided, source)]
        corpora.append(collect(number, parts, kept, longest[number]))
        if corpora[-1].no_room and not corpora[-1].label_tokens:
            raise UserError(
                f"no prompt of {source.role} source {source.index} leaves room for a response in {longest[number]} tokens",
                source.source.path,
                "raise training.sequence_length",
            )
        if not corpora[-1].label_tokens and not may_be_empty:
            raise UserError(
                f"no training row is left in {source.role} source {source.index}",
                source.source.path,
                "all its rows are duplicates, leaked or held out: see the ledger; add data or lower evaluation.domain_holdout",
            )
    return corpora


def choose_documents(
    sources: Sequence[PreparedSource], corpora: Sequence[Corpus], limit: int | None, seed: int
) -> tuple[list[Corpus], int]:
    """Keep at most `limit` documents of the domain, in their order; return the corpora and the label tokens left out."""
    domain = [number for number, source in enumerate(sources) if source.role == "domain"]
    counts = [len(corpora[number].lengths) for number in domain]
    if limit is None or sum(counts) <= limit:
        return list(corpora), 0
    chosen = np.zeros(sum(counts), bool)
    chosen[np.random.default_rng([seed, DOCUMENTS_STREAM]).permutation(len(chosen))[:limit]] = True
    kept = list(corpora)
    for number, mask in zip(domain, np.split(chosen, np.cumsum(counts)[:-1]), strict=True):
        kept[number] = corpora[number].take(mask)
    for number in domain:
        if not len(kept[number].lengths):
            raise UserError(
                f"training.documents chooses none of the documents of domain source {sources[number].index}",
                sources[number].source.path,
                "raise training.documents, or name fewer sources",
            )
    left_out = sum(corpora[n].label_tokens - kept[n].label_tokens for n in domain)
    return kept, left_out


def general_tokens(spec: RunSpec) -> int:
    """Label tokens of general text that the remedies measure on: each reads a beginning of the same sample."""
    return max((remedy.general_sample for remedy in spec.remedies), default=0)


def draw_general(spec: RunSpec, sources: Sequence[PreparedSource], corpora: Sequence[Corpus]) -> Pieces:
    """A seeded sample of the replay sources by their weights, cut into windows, in a random order.

    It has as many label tokens as the remedies ask for, or all there are. It does not depend on the mixture, the
    length or the batch of the training.
    """
    seed = spec.training.seed
    replay = [(s, c) for s, c in zip(sources, corpora, strict=True) if s.role == "replay"]
    shares = share_tokens(general_tokens(spec), [source.source.weight for source, _ in replay])
    drawn = [
        draw([corpus], min(share, corpus.label_tokens), 0, seed, GENERAL_STREAM + number)
        for number, ((_, corpus), share) in enumerate(zip(replay, shares, strict=True))
    ]
    windows = cut_windows(np.concatenate(drawn), spec.training.sequence_length)
    return windows[np.random.default_rng([seed, GENERAL_STREAM]).permutation(len(windows))]


def _describe(
    spec: RunSpec,
    sources: Sequence[PreparedSource],
    corpora: Sequence[Corpus],
    pieces: Pieces,
    sequences: npt.NDArray[np.int64],
    lengths: Lengths,
    repeated: int = 0,
) -> tuple[MixtureReport, TokenLedger]:
    """Count what was laid out: from the pieces themselves, not from what was asked.

    `repeated`: domain label tokens that each pass has besides those of `corpora`.
    """
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
    a_pass = available["domain"] + repeated
    replay = [(s, c, t) for s, c, t in zip(sources, corpora, trained, strict=True) if s.role == "replay"]
    weights = replay_weights(spec, sources, corpora)
    shares = share_tokens(lengths.replay, weights) if replay else []
    positions = (len(sequences) - 1) * training.sequence_length
    filled = int(pieces["length"].astype(np.int64).sum())
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
        fill_ratio=filled / positions,
        steps=math.ceil((len(sequences) - 1) * training.sequence_length / training.batch_tokens),
        sequences_per_step=training.batch_tokens // training.sequence_length,
    )
    ledger = TokenLedger(
        domain=available["domain"],
        replay=available["replay"],
        domain_trained=by_role["domain"],
        replay_trained=by_role["replay"],
        truncated=_truncated(by_role["domain"], a_pass) + sum(c.cut_off for c in corpora),
        padding=positions - filled,
        repeated=repeated,
    )
    return report, ledger


def _truncated(trained: int, a_pass: int) -> int:
    """Domain label tokens that the last, unfinished pass over the domain did not reach."""
    return -trained % a_pass


def load_plan(step: Step) -> tuple[Pieces, npt.NDArray[np.int64]]:
    """Pieces and sequence offsets, memory-mapped."""
    return np.load(step.folder / "pieces.npy", mmap_mode="r"), np.load(step.folder / "sequences.npy")


def load_general(step: Step) -> Pieces:
    """The sample of general text that remedies measure on."""
    found: Pieces = np.load(step.folder / GENERAL)
    return found


def load_development(step: Step) -> Pieces:
    """The documents that were kept from training, as windows."""
    found: Pieces = np.load(step.folder / DEVELOPMENT)
    return found


def labels_before_steps(
    pieces: Pieces, sequences: npt.NDArray[np.int64], sequences_per_step: int
) -> npt.NDArray[np.int64]:
    """Label tokens before each optimizer step, and in all: (steps + 1,)."""
    labels = pieces["length"].astype(np.int64) - pieces["context"]
    before = np.concatenate([[0], np.cumsum(labels)])[sequences]
    return np.append(before[:-1:sequences_per_step], before[-1])


def open_sources(
    sources: Sequence[PreparedSource], tokenized: Sequence[Step], special: SpecialIds
) -> list[list[TokenPart]]:
    """Token parts of every training source, in the numbering of the pieces."""
    return [
        open_tokens(step, len(source.parts), special.vocab_size)
        for source, step in zip(sources, tokenized, strict=True)
    ]
