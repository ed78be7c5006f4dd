"""Anchors pull the weights to where they started, as strongly as they say."""

import pytest
import torch
from pydantic import ValidationError

from schemas.spec.methods.union import Full
from tasks.training.attach import attach
from tasks.training.device import find_device
from tasks.training.methods import full
from tasks.training.models.load import load_model
from tasks.training.train import _make_trainer, train
from tests.training.methods.tiny_models import context, tiny_bert
from tests.training.prepared import prepare_inputs, spec_of

QUIET = {"steps": 4, "warmup_ratio": 0, "schedule": "constant", "learning_rate": 0.01}


def test_l2_sp_is_half_the_squared_distance(base):
    tuned = full.attach(load_model(base), Full(anchor="l2_sp", anchor_strength=3), context())
    assert float(tuned.penalty()) == 0
    with torch.no_grad():
        for parameter in tuned.model.parameters():
            parameter.add_(0.5)
    numbers = sum(p.numel() for p in tuned.model.parameters())
    assert float(tuned.penalty()) == pytest.approx(3 / 2 * 0.25 * numbers, rel=1e-3)
    tuned.penalty().backward()
    assert all(torch.allclose(p.grad, torch.full_like(p, 1.5), rtol=1e-3) for p in tuned.model.parameters())


def test_a_decay_goes_back_rate_times_strength_of_the_way_after_the_step(root, base, tmp_path):
    """A run whose gradients are clipped to nothing moves by the decay alone."""
    from transformers import TrainerCallback

    method = {"kind": "full", "anchor": "decay_to_base", "anchor_strength": 20.0}
    spec = spec_of(root, base, method=method, training=QUIET)
    inputs = prepare_inputs(root, spec)
    tuned = attach(spec, inputs, find_device())
    trainer, _ = _make_trainer(tuned, tmp_path, spec, inputs, find_device(), None)
    weight = tuned.model.model.norm.weight
    start = weight.detach().clone()
    track = []

    class Watch(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, **_):
            for parameter in tuned.model.parameters():
                parameter.grad = None  # the optimizer does nothing, so what moves is the decay
            with torch.no_grad():
                weight.add_(1.0)
            track.append(weight.detach().clone())

        def on_step_end(self, *_, **__):
            track.append(weight.detach().clone())

    trainer.add_callback(Watch())
    trainer.train()
    before, after = track[0], track[1]
    assert torch.allclose(after - start, (before - start) * (1 - 0.01 * 20), atol=1e-6)


@pytest.mark.parametrize("anchor", ["l2_sp", "decay_to_base"])
def test_an_anchored_run_stays_nearer_to_the_base(root, base, tmp_path, anchor):
    distances = []
    for strength in (1e-6, 5.0):
        method = {"kind": "full", "anchor": anchor, "anchor_strength": strength}
        spec = spec_of(root, base, method=method, training=QUIET | {"steps": 8})
        step = train(tmp_path / str(strength), spec, prepare_inputs(root, spec))
        distances.append(step.facts["method"]["distance_to_base"])
        plain, tuned = load_model(base), load_model(step.folder / "model")
        real = sum(
            (p - q).square().sum() for p, q in zip(plain.parameters(), tuned.parameters(), strict=True)
        )
        assert distances[-1] == pytest.approx(float(real) ** 0.5, rel=1e-4)
    assert distances[1] < 0.9 * distances[0]


def test_a_new_head_has_nothing_to_be_pulled_to():
    tuned = full.attach(tiny_bert(), Full(anchor="l2_sp", anchor_strength=1), context(("classifier",)))
    with torch.no_grad():
        tuned.model.classifier.weight.add_(1)
    assert float(tuned.penalty()) == 0


def test_a_strength_belongs_to_an_anchor(root, base):
    for settings in ({"anchor": "l2_sp"}, {"anchor_strength": 1.0}):
        with pytest.raises(ValidationError, match="anchor_strength: "):
            Full(**settings)
    with pytest.raises(ValidationError, match="the whole way back"):
        spec_of(root, base, method={"kind": "full", "anchor": "decay_to_base", "anchor_strength": 100.0})
