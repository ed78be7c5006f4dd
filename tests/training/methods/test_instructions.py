"""Every method learns responses and nothing of prompts, on the same path that scores and answers them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from schemas.spec.run import RunSpec
from tasks.data.plan.plan import load_plan, open_sources, plan_training
from tasks.data.tokens.prompts import PLAIN, read_frame
from tasks.data.tokens.tokenize import tokenize_source
from tasks.data.tokens.tokenizer import special_ids
from tasks.evaluation.scoring.answers import may_pad, respond
from tasks.evaluation.scoring.loss import score_documents
from tasks.training.attach import attach
from tasks.training.batches.by_length import split_packed
from tasks.training.batches.packed import IGNORED
from tasks.training.device import find_device
from tasks.training.inputs import TrainingInputs, open_dataset
from tasks.training.methods.registry import METHODS
from tasks.training.models.load import load_model
from tasks.training.train import train
from tests.corpora import here, make_spec, prepare_rows, source, write_rows
from tests.tiny_base import prose
from tests.toy_sums import sums
from tests.training.methods.small import BIASED, SMALL, WIDE

BASIC = [k for k, entry in METHODS.items() if not entry.settings.needs_task_head and SMALL[k] is not None]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sums")
    write_rows(folder / "sums.jsonl", sums())
    write_rows(folder / "replay.jsonl", [line[:200] for line in prose("en_*")][:40])
    write_rows(folder / "general.jsonl", ["scored"])
    return folder


@pytest.fixture
def base(request: pytest.FixtureRequest, base: Path, wide_base: Path, biased_base: Path) -> Path:
    """The tiny base that suits the method under test."""
    kind = getattr(request.node, "callspec", None) and request.node.callspec.params.get("kind")
    return wide_base if kind in WIDE else biased_base if kind in BIASED else base


def spec_for(files: Path, base: Path, kind: str, **training: Any) -> RunSpec:
    return make_spec(
        base=str(base),
        objective={"kind": "instruction"},
        domain=[source(files / "sums.jsonl")],
        replay=[source(files / "replay.jsonl", record="text")],
        mixture={"replay_ratio": 0.3},
        method={"kind": kind, **SMALL[kind]},
        training={"sequence_length": 96, "batch_tokens": 384, **training},
        evaluation={"domain_holdout": 0.1, "general": [source(files / "general.jsonl", record="text")]},
    )


def inputs_for(root: Path, spec: RunSpec) -> TrainingInputs:
    base = Path(spec.base)
    prepared, special = prepare_rows(root, spec), special_ids(Path(spec.base))
    steps = [
        tokenize_source(root, rows, base, here, spec.record_of(rows.source), PLAIN)
        for rows in prepared.training
    ]
    plan = plan_training(root, spec, prepared.training, steps, prepared.divided, special)
    sources = open_sources(prepared.training, steps, special)
    return TrainingInputs(base, spec.base, plan, sources, special, frame=PLAIN)


def pieces_of(inputs: TrainingInputs, sequences: int) -> list[tuple[np.ndarray, int]]:
    """(ids, context) of the pieces of the first sequences, read without the dataset."""
    pieces, ends = load_plan(inputs.plan)
    return [
        (np.array(inputs.sources[source_][part].tokens[start : start + length]), context)
        for source_, part, start, length, context in pieces[: ends[sequences]].tolist()
    ]


@pytest.mark.parametrize("kind", BASIC)
def test_the_loss_of_a_batch_is_that_of_the_responses_as_they_are_scored(root, files, base, kind):
    spec = spec_for(files, base, kind, steps=4)
    inputs = inputs_for(root, spec)
    model = attach(spec, inputs, find_device()).model.eval()
    dataset, collate = open_dataset(spec, inputs)
    batch = collate([dataset[k] for k in range(8)])
    pieces = pieces_of(inputs, 8)
    assert any(context > 1 for _, context in pieces)
    assert any(context == 1 for _, context in pieces), "text is replayed beside"
    nats = score_documents(model, [ids for ids, _ in pieces], 96, 4096, "cpu", None, [c for _, c in pieces])
    labels = sum(len(ids) - context for ids, context in pieces)
    assert int((batch["labels"] != IGNORED).sum()) == labels
    with torch.inference_mode():
        loss = float(model(**batch, use_cache=False).loss)
    assert loss == pytest.approx(nats.sum() / labels, abs=2e-5)


def test_labels_are_the_response_and_its_eos_and_no_prompt(root, files, base):
    spec = spec_for(files, base, "full", steps=4)
    inputs = inputs_for(root, spec)
    dataset, collate = open_dataset(spec, inputs)
    batch = collate([dataset[k] for k in range(len(dataset))])
    kept = batch["labels"] != IGNORED
    assert torch.equal(batch["labels"][kept], batch["input_ids"][kept])
    trained = sorted(batch["labels"][kept].tolist())
    wanted = sorted(i for ids, c in pieces_of(inputs, len(dataset)) for i in ids[c:].tolist())
    assert trained == wanted
    ends = sum(ids[-1] == inputs.special.eos for ids, _ in pieces_of(inputs, len(dataset)))
    assert ends > 0
    assert trained.count(inputs.special.eos) == ends


def test_documents_laid_side_by_side_have_the_labels_of_the_packed_rows(root, files, base):
    spec = spec_for(files, base, "full", steps=4)
    dataset, collate = open_dataset(spec, inputs_for(root, spec))
    batch = collate([dataset[k] for k in range(4)])
    model = load_model(base)
    parts = list(split_packed([batch], 120))
    assert len(parts) > 1
    with torch.inference_mode():
        packed = model(**batch, use_cache=False).loss * (batch["labels"] != IGNORED).sum()
        apart = sum(model(**p, use_cache=False).loss * (p["labels"] != IGNORED).sum() for p in parts)
    assert float(apart) == pytest.approx(float(packed), rel=1e-5)


@pytest.mark.parametrize("kind", ["full", "prompt_tuning", "adapter"])
def test_a_prompt_token_gives_no_gradient_by_itself(root, files, base, kind):
    """The gradient is that of the responses alone: a batch whose responses are ignored has none."""
    spec = spec_for(files, base, kind, steps=4)
    inputs = inputs_for(root, spec)
    tuned = attach(spec, inputs, find_device())
    dataset, collate = open_dataset(spec, inputs)
    batch = collate([dataset[0]])
    ids, context = next((ids, c) for ids, c in pieces_of(inputs, 1) if c > 1)
    row = next(r for r in range(len(batch["input_ids"])) if ids[0] in batch["input_ids"][r])
    seen = batch["labels"][row].tolist()
    at = next(
        i for i in range(len(seen)) if batch["input_ids"][row, i : i + len(ids)].tolist() == ids.tolist()
    )
    assert seen[at : at + context] == [IGNORED] * context
    assert seen[at + context : at + len(ids)] == ids[context:].tolist()
    tuned.model(**batch, use_cache=False).loss.backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in tuned.model.parameters())


@pytest.mark.parametrize("kind", BASIC)
def test_answers_given_together_are_the_answers_given_alone(root, files, base, tmp_path, kind):
    """Padding in front of a prompt must not change its answer; where it would, prompts of one length go together."""
    spec = spec_for(files, base, kind, steps=2, learning_rate=3e-2)
    inputs = inputs_for(root, spec)
    folder = train(tmp_path, spec, inputs).folder / "model"
    assert read_frame(folder) == PLAIN
    model = load_model(folder)
    prompts = [ids[:context].tolist() for ids, context in pieces_of(inputs, 3) if context > 1]
    prompts.sort(key=len)
    prompts = [prompts[0], [*prompts[0][:-1], 7], prompts[-1]] if not may_pad(folder) else prompts[::3]
    groups = [prompts] if may_pad(folder) else [prompts[:2], prompts[2:]]
    together = [ids for group in groups for ids in respond(model, folder, group, 8)]
    assert together == [respond(model, folder, [ids], 8)[0] for ids in prompts]
