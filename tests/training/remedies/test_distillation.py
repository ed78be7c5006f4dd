"""Distillation: the divergence is that of the whole predictions, and every position meets its own teacher."""

import numpy as np
import pytest
import torch

from tasks.data.plan.plan import load_plan
from tasks.training.batches.by_length import split_packed
from tasks.training.inputs import open_dataset
from tasks.training.models.load import load_base
from tasks.training.remedies.base import Outputs, RemedyContext
from tasks.training.remedies.distillation import attach, divergence, prepare
from tests.training.prepared import prepare_inputs, train_here
from tests.training.remedies.small import SMALL, spec_with
from tests.training.remedies.test_contract import FOR_METHOD, weights

DISTILLATION = {"kind": "distillation", **SMALL["distillation"]}
VOCABULARY = 1024


def kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return (p * (np.log(p) - np.log(q))).sum(-1)


def softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


@pytest.mark.parametrize("k", [1, 3, 7])
def test_the_divergence_is_that_of_the_top_k_and_the_rest_as_one_class(k):
    rng = np.random.default_rng(1)
    teacher, student = rng.normal(size=(2, 5, 7))
    p, q = softmax(teacher), softmax(student)
    top = np.argsort(-p, axis=-1)[:, :k]
    classes = [np.take_along_axis(x, top, -1) for x in (p, q)]
    if k < 7:
        classes = [np.concatenate([c, 1 - c.sum(-1, keepdims=True)], -1) for c in classes]
    found = divergence(
        torch.tensor(student), torch.tensor(top), torch.tensor(np.log(np.take_along_axis(p, top, -1)))
    )
    np.testing.assert_allclose(found.numpy(), kl(*classes), rtol=1e-6)
    assert (found.numpy() <= kl(p, q) + 1e-9).all()
    if k == 7:
        np.testing.assert_allclose(found.numpy(), kl(p, q), rtol=1e-6)


def made(root, base, tmp_path, on="all", top_k=VOCABULARY, temperature=2.0):
    """(specification, inputs, the remedy at work)."""
    settings = {"kind": "distillation", "strength": 3.0, "on": on, "top_k": top_k, "temperature": temperature}
    spec = spec_with(root, base, settings)
    context = RemedyContext(tmp_path, spec, prepare_inputs(root, spec))
    (remedy,) = spec.remedies
    return spec, context.inputs, attach(None, remedy, context, prepare(remedy, context))


def logits_of(model, batch):
    given = {name: tensor for name, tensor in batch.items() if name in ("input_ids", "position_ids")}
    with torch.inference_mode():
        return model(**given, use_cache=False).logits


def batches(spec, inputs, count=4):
    dataset, collate = open_dataset(spec, inputs, numbered=True)
    return collate([dataset[k] for k in range(count)])


def total(remedy, model, parts) -> float:
    return sum(
        float(remedy.loss(Outputs(logits_of(model, p), p["labels"], p["places"], torch.tensor(1.0))))
        for p in parts
    )


def test_the_base_itself_is_at_no_distance_however_documents_are_laid_out(root, base, tmp_path):
    spec, inputs, remedy = made(root, base, tmp_path)
    packed = batches(spec, inputs)
    parts = list(split_packed([packed], 64))
    assert len(parts) > 1
    assert total(remedy, load_base(base), [packed]) == pytest.approx(0, abs=1e-3)
    assert total(remedy, load_base(base), parts) == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("on", ["all", "replay"])
def test_packed_or_apart_the_loss_is_the_whole_divergence_at_the_label_tokens(root, base, tmp_path, on):
    spec, inputs, remedy = made(root, base, tmp_path, on)
    model = load_base(base)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(5)))
    pieces, sequences = load_plan(inputs.plan)
    expected, replay = 0.0, 0
    for source, part, start, length, _ in pieces[: sequences[4]].tolist():
        if on == "replay" and source == 0:
            continue
        replay += source == 1
        ids = torch.tensor(inputs.sources[source][part].tokens[start : start + length].astype(np.int64))[None]
        p, q = (
            softmax(logits_of(m, {"input_ids": ids})[0, :-1].double().numpy() / 2)
            for m in (load_base(base), model)
        )
        expected += 3.0 * 2**2 * kl(p, q).sum()
    assert replay
    packed = batches(spec, inputs)
    assert total(remedy, model, [packed]) == pytest.approx(expected, rel=1e-4)
    assert total(remedy, model, list(split_packed([packed], 64))) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("method", FOR_METHOD)
def test_without_strength_it_is_the_baseline_bit_for_bit(root, base, tmp_path, method):
    steps = [
        train_here(root, spec_with(root, base, *remedies, method=FOR_METHOD[method]), tmp_path / str(n))
        for n, remedies in enumerate([[], [DISTILLATION | {"strength": 0}]])
    ]
    assert weights(steps[0]) == weights(steps[1])


def test_the_teacher_is_made_once_for_all_strengths_and_once_per_document(root, base, tmp_path):
    keys, facts = [], []
    for strength, epochs in ((1.0, 1), (2.0, 1), (1.0, 2)):
        remedy = DISTILLATION | {"strength": strength, "on": "all"}
        spec = spec_with(root, base, remedy, training={"epochs": epochs}, mixture={"replay_ratio": 0.05})
        step = prepare(spec.remedies[0], RemedyContext(tmp_path, spec, prepare_inputs(root, spec)))
        keys.append(step.key)
        facts.append(step.facts["documents"])
    assert keys[0] == keys[1]
    assert facts[2] < 1.2 * facts[0], "documents that come again have the teacher they had"


@pytest.mark.parametrize("kind", ["prefix_tuning", "prompt_tuning"])
def test_virtual_tokens_before_the_text_move_no_teacher(root, base, tmp_path, kind):
    """Documents apart, and for prompts more logits than tokens: a step without length changes nothing."""
    method = {"kind": kind, "virtual_tokens": 4}
    spec = spec_with(root, base, DISTILLATION, method=method, training={"steps": 2})
    step = train_here(root, spec, tmp_path)
    assert step.facts["remedies"]["distillation"]["positions"] > 0


def test_distilling_on_replay_needs_replay(root, base):
    with pytest.raises(ValueError, match="no replay to distil on"):
        spec_with(root, base, DISTILLATION, mixture={"replay_ratio": 0})
    spec_with(root, base, DISTILLATION | {"on": "all"}, mixture={"replay_ratio": 0})
