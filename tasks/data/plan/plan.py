"""The plan of a training run, written before it starts: every sequence of every step, and what it adds up to."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.spec.run import RunSpec
from tasks.data.labels.labels import Labels
from tasks.data.plan.balance import balance_classes, label_shares
from tasks.data.plan.corpora import choose_documents, collect_corpora
from tasks.data.plan.importance import require_choice, weigh_documents
from tasks.data.plan.kept_documents import development_tokens, keep_development
from tasks.data.plan.mix import Corpus, Pieces, count_labels, cut_windows, draw, share_tokens
from tasks.data.plan.past_rows import require_new_rows, weigh_past
from tasks.data.plan.plan_report import describe_plan
from tasks.data.plan.schedule import lay_out
from tasks.data.tokens.token_files import TokenPart, open_tokens
from tasks.data.tokens.tokenizer import SpecialIds
from tasks.data.validate.sources import PreparedSource
from tasks.storage.code import code_version
from tasks.storage.steps import Step, StepPlan, run_step

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
            spec.mixture.model_dump(exclude={"forgetting_budget", "proxies"}),
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
            spec.increments.model_dump(include={"past_ratio", "max_repetitions"})
            if spec.increments and spec.increment
            else None,
            general_tokens(spec),
            development_tokens(spec),
        ],
        code=code_version(__name__),
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
        laid = lay_out(reachable, weighed, drawn)
        np.save(folder / "pieces.npy", laid.pieces)
        np.save(folder / "sequences.npy", laid.sequences)
        repeated = sum(c.label_tokens for c in drawn) - sum(c.label_tokens for c in corpora)
        report, ledger = describe_plan(spec, weighed, corpora, laid, repeated)
        require_choice(spec, report)
        if by_label:
            shares = label_shares(sources, corpora, laid.pieces, by_label, parts)
            report = report.model_copy(update={"labels": shares})
        counts = {
            "left_out": left_out,
            "development": 0 if kept is None else count_labels(kept),
            "no_room": sum(corpus.no_room for corpus in corpora),
        }
        ledger = ledger.model_copy(update=counts)
        return {"report": report.model_dump(mode="json"), "tokens": ledger.model_dump(mode="json")}

    return run_step(plan, work)


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
