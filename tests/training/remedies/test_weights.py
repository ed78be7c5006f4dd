"""Weighted losses: each token times the factor of its document, wherever the layout puts it."""

import numpy as np
import pytest
import torch

from schemas.spec.remedies import LossWeighting
from tasks.data.plan.plan import load_plan
from tasks.training.batches.by_length import split_packed
from tasks.training.models.load import load_base
from tasks.training.remedies.applied import Applied, weighted_loss
from tasks.training.remedies.base import Outputs, RemedyContext
from tasks.training.remedies.easy_samples import weigh
from tasks.training.remedies.parts.plan_places import WeighedPieces
from tasks.training.remedies.registry import REMEDIES
from tests.training.prepared import prepare_inputs, train_here
from tests.training.remedies.small import spec_with
from tests.training.remedies.test_distillation import batches, logits_of


def made(root, base, settings):
    spec = spec_with(root, base, settings)
    context = RemedyContext(root, spec, prepare_inputs(root, spec))
    (remedy,) = spec.remedies
    entry = REMEDIES[remedy.kind]
    prepared = entry.prepare(remedy, context) if entry.prepare else None
    return spec, context.inputs, entry.attach(None, remedy, context, prepared)


def nats(model, ids) -> np.ndarray:
    logp = logits_of(model, {"input_ids": torch.tensor(ids.astype(np.int64))[None]})[0, :-1].log_softmax(-1)
    return -logp[range(len(ids) - 1), ids[1:].astype(np.int64)].double().numpy()


def documents(inputs, count):
    """(number of the source, ids) of the first sequences' pieces."""
    pieces, sequences = load_plan(inputs.plan)
    return [
        (source, inputs.sources[source][part].tokens[start : start + length])
        for source, part, start, length, _ in pieces[: sequences[count]].tolist()
    ]


def total(remedy, model, parts) -> float:
    applied = Applied({"it": remedy}, True)
    return sum(
        float(
            applied.loss(
                torch.tensor(0.0), Outputs(logits_of(model, p), p["labels"], p["places"], torch.tensor(1.0))
            )
        )
        for p in parts
    )


def test_domain_and_replay_tokens_have_their_factors_packed_or_apart(root, base):
    spec, inputs, remedy = made(root, base, {"kind": "loss_weighting", "domain": 0.5, "replay": 3.0})
    model = load_base(base)
    expected = sum((3.0 if source else 0.5) * nats(model, ids).sum() for source, ids in documents(inputs, 4))
    packed = batches(spec, inputs)
    assert total(remedy, model, [packed]) == pytest.approx(expected, rel=1e-5)
    assert total(remedy, model, list(split_packed([packed], 64))) == pytest.approx(expected, rel=1e-5)


def test_easy_documents_have_the_weights_of_the_paper_scaled_to_1_on_average(root, base):
    spec, inputs, remedy = made(root, base, {"kind": "easy_samples"})
    model = load_base(base)
    pieces, sequences = load_plan(inputs.plan)
    losses = np.array([nats(model, ids).mean() for _, ids in documents(inputs, len(sequences) - 1)])
    labels = pieces["length"].astype(int) - 1
    raw = np.exp(-losses / np.median(losses))
    expected = raw / (raw * labels).sum() * labels.sum()
    np.testing.assert_allclose(remedy.factors, expected, rtol=1e-4)
    assert remedy.facts()["temperature"] == pytest.approx(np.median(losses), rel=1e-5)
    first = sum(
        weight * nats(model, ids).sum()
        for weight, (_, ids) in zip(expected, documents(inputs, 4), strict=False)
    )
    assert total(remedy, model, list(split_packed([batches(spec, inputs)], 64))) == pytest.approx(
        first, rel=1e-4
    )


def test_losses_that_are_large_leave_the_least_one_its_weight():
    found = weigh(np.array([5000.0, 5001.0]), np.array([1, 1]), 1.0)
    np.testing.assert_allclose(found, 2 * np.array([1, np.exp(-1)]) / (1 + np.exp(-1)))


def test_factors_of_several_remedies_are_multiplied_and_1_changes_nothing(root, base):
    spec, inputs, _ = made(root, base, {"kind": "loss_weighting"})
    pieces, _ = load_plan(inputs.plan)
    model, packed = load_base(base), batches(spec, inputs)
    outputs = Outputs(logits_of(model, packed), packed["labels"], packed["places"], torch.tensor(7.0))
    ones, twos, threes = (WeighedPieces(pieces, np.full(len(pieces), factor)) for factor in (1.0, 2.0, 3.0))
    plain = model(
        **{k: v for k, v in packed.items() if k != "places"}, num_items_in_batch=7.0, use_cache=False
    ).loss
    assert float(Applied({"a": ones}).loss(plain, outputs)) == pytest.approx(float(plain), rel=1e-6)
    both = Applied({"a": twos, "b": threes}).loss(plain, outputs)
    assert float(both) == pytest.approx(6 * float(plain), rel=1e-6)
    assert weighted_loss(outputs, torch.zeros(packed["labels"].shape)) == 0


def test_without_weight_the_domain_is_not_learnt(root, base, tmp_path):
    losses: dict[str, float] = {}
    for name, remedies in (("plain", []), ("replay", [{"kind": "loss_weighting", "domain": 0, "replay": 1}])):
        spec = spec_with(root, base, *remedies, training={"steps": 12})
        step = train_here(root, spec, tmp_path / name)
        model = load_base(step.folder / "model")
        texts = documents(prepare_inputs(root, spec), 8)
        losses[name] = np.concatenate([nats(model, ids) for source, ids in texts if source == 0]).mean()
    assert losses["replay"] > losses["plain"] + 0.3


def test_equal_factors_and_weighing_without_replay_are_refused(root, base):
    with pytest.raises(ValueError, match="equals domain"):
        LossWeighting(domain=2, replay=2)
    with pytest.raises(ValueError, match="no replay to weigh"):
        spec_with(root, base, {"kind": "loss_weighting"}, mixture={"replay_ratio": 0})
