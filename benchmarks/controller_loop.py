"""The loop of `benchmarks.controller`: one training on two streams of sequences, with a fixed or a controlled replay ratio.

Domain and replay sequences come from our own data path (fates, tokens, draw, packing). Each stream has one order per seed,
so all sides see the same domain sequences in the same order, and the same beginning of the replay stream.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ratio_controller import RatioController
from schemas.spec.run import RunSpec
from tasks.data.plan.corpora import collect_corpora
from tasks.data.plan.mix import Corpus, cut_windows, draw
from tasks.data.plan.pack import pack_best_fit
from tasks.data.prepare import Prepared, Tokenized
from tasks.evaluation.scoring.loss import score_documents
from tasks.evaluation.suites.items import BATCH_TOKENS, Item
from tasks.training.batches.by_length import split_packed
from tasks.training.batches.packed import PackedSequences, collate
from tasks.training.models.load import load_base

PROBE_EVERY = 5
"""Optimizer steps between probes."""
SHUFFLE = 5  # of random numbers: the order of packed sequences


@dataclass(frozen=True)
class Ground:
    """What all trainings share."""

    spec: RunSpec
    base: Path
    prepared: Prepared
    tokenized: Tokenized
    domain_tokens: int
    """Label tokens of the domain in every training."""
    probe: Sequence[Item]
    """Documents that the controller looks at; none of them judges."""
    probe_base: float
    """Their loss under the base, nats per token."""

    def streams(self, seed: int) -> tuple[PackedSequences, PackedSequences]:
        """Domain sequences of the whole training, and more replay than any ratio needs."""
        steps = [self.tokenized.steps[source.label] for source in self.prepared.training]
        sources = self.prepared.training
        corpora = collect_corpora(
            sources, steps, self.prepared.divided, self.tokenized.special, [None] * len(sources)
        )
        domain = [corpus for corpus, source in zip(corpora, sources, strict=True) if source.role == "domain"]
        replay = [corpus for corpus, source in zip(corpora, sources, strict=True) if source.role == "replay"]
        return (
            self._stream(domain, self.domain_tokens, seed, 0),
            self._stream(replay, 4 * self.domain_tokens, seed, 1),
        )

    def _stream(self, corpora: Sequence[Corpus], tokens: int, seed: int, stream: int) -> PackedSequences:
        length = self.spec.training.sequence_length
        windows = cut_windows(draw(corpora, tokens, 0, seed, stream), length)
        packs = pack_best_fit(windows["length"].astype(np.int64), length)
        order = np.random.default_rng([seed, SHUFFLE, stream]).permutation(len(packs))
        pieces = windows[[index for pack in order for index in packs[pack]]]
        offsets = np.concatenate([[0], np.cumsum([len(packs[pack]) for pack in order])]).astype(np.int64)
        tokens_of = self.tokenized.training_tokens(self.prepared)
        return PackedSequences(pieces, offsets, tokens_of, length, self.tokenized.special.pad)


@dataclass
class Told:
    """What one training did."""

    domain_tokens: int = 0
    replay_tokens: int = 0
    steps: int = 0
    probes: list[tuple[int, float, float, float]] = field(default_factory=list)
    """(steps done, forgetting of the probe, ratio set, factor of the learning rate) of each probe."""
    probe_tokens: int = 0
    seconds: float = 0.0
    probe_seconds: float = 0.0
    stopped: bool = False


class Mixer:
    """Next sequences of a step: replay whenever it is owed label tokens, domain otherwise, until the domain ends."""

    def __init__(self, domain: PackedSequences, replay: PackedSequences):
        self.streams = (domain, replay)
        self.at = [0, 0]
        self.owed = 0.0

    def next_step(self, sequences: int, ratio: float) -> list[tuple[int, dict[str, Any]]]:
        """(0 for domain or 1 for replay, sequence); fewer where the domain ends, none after its end."""
        rows: list[tuple[int, dict[str, Any]]] = []
        while len(rows) < sequences:
            which = int(self.owed > 0)
            if not which and self.at[0] == len(self.streams[0]):
                break
            row = self.streams[which][self.at[which]]
            self.at[which] += 1
            tokens = int((row["labels"] >= 0).sum())
            self.owed += ratio * tokens - which * tokens
            rows.append((which, row))
        return rows


def train(ground: Ground, seed: int, ratio: float | RatioController) -> tuple[Any, Told]:
    """Train the base on every domain sequence once, with replay at the ratio; return the model and what was done.

    A number is a fixed ratio; a controller is asked after every PROBE_EVERY steps.
    """
    import torch

    training = ground.spec.training
    began = time.process_time()
    torch.manual_seed(seed)
    model = load_base(ground.base)
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=training.learning_rate,
        betas=(0.9, training.adam_beta2),
        weight_decay=training.weight_decay,
    )
    mixer, told = Mixer(*ground.streams(seed)), Told()
    rows_of_step = training.batch_tokens // training.sequence_length
    while True:
        now = ratio.ratio if isinstance(ratio, RatioController) else ratio
        rows = mixer.next_step(rows_of_step, now)
        if not rows:
            break
        _step(model, optimizer, [row for _, row in rows], training)
        told.steps += 1
        for which, row in rows:
            tokens = int((row["labels"] >= 0).sum())
            told.domain_tokens += tokens * (which == 0)
            told.replay_tokens += tokens * (which == 1)
        if isinstance(ratio, RatioController) and told.steps % PROBE_EVERY == 0:
            _probe(ground, model, optimizer, ratio, told)
            if ratio.stopped:
                told.stopped = True
                break
    told.seconds = time.process_time() - began
    return model, told


def _step(model: Any, optimizer: Any, rows: list[dict[str, Any]], training: Any) -> None:
    """One optimizer step: the loss per label token of all its sequences."""
    import torch

    batch = collate(rows)
    tokens = int((batch["labels"] >= 0).sum())
    model.train()
    for part in split_packed((batch,), training.batch_tokens):
        model(**part, num_items_in_batch=tokens, use_cache=False).loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), training.max_grad_norm)
    optimizer.step()
    optimizer.zero_grad()


def _probe(ground: Ground, model: Any, optimizer: Any, controller: RatioController, told: Told) -> None:
    """Measure what is forgotten of the probe's documents, and do what the controller says."""
    began = time.process_time()
    forgetting = mean_loss(ground, model, ground.probe) - ground.probe_base
    controller.update(forgetting)
    for group in optimizer.param_groups:
        group["lr"] = ground.spec.training.learning_rate * controller.factor
    told.probes.append((told.steps, forgetting, controller.ratio, controller.factor))
    told.probe_tokens += sum(item.labels for item in ground.probe)
    told.probe_seconds += time.process_time() - began


def losses(ground: Ground, model: Any, items: Sequence[Item]) -> list[float]:
    """Summed loss of each document in nats."""
    documents = [item.input_ids for item in items]
    length = ground.spec.training.sequence_length
    return score_documents(model, documents, length, BATCH_TOKENS, "cpu").tolist()


def mean_loss(ground: Ground, model: Any, items: Sequence[Item]) -> float:
    """Nats per label token."""
    return sum(losses(ground, model, items)) / sum(item.labels for item in items)
