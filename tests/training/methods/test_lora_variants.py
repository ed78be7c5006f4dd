"""rsLoRA, DoRA, PiSSA, OLoRA and LoRA+ are what their papers say, against a few lines of matrix algebra."""

import math

import pytest
import torch
from pydantic import ValidationError

from schemas.spec.methods.union import Lora
from tasks.training.attach import attach
from tasks.training.device import find_device
from tasks.training.methods import lora
from tasks.training.methods.parts.peft_backed import load_peft
from tasks.training.models.load import load_model
from tasks.training.train import _make_trainer
from tests.training.methods.tiny_models import context, logits, train_a_little, trainable
from tests.training.prepared import prepare_inputs, spec_of

Q = "model.layers.0.self_attn.q_proj"


def tuned_on(base, **settings):
    torch.manual_seed(2)
    return lora.attach(load_model(base), Lora(r=4, alpha=8, **settings), context())


def weight_of(tuned, name=Q):
    """The effective weight of one layer: what it does to the unit vectors."""
    layer = tuned.model.base_model.model.get_submodule(name)
    with torch.no_grad():
        return layer.eval()(torch.eye(layer.in_features)).T


def factors(tuned, name=Q):
    layer = tuned.model.base_model.model.get_submodule(name)
    return layer.lora_A["default"].weight.detach(), layer.lora_B["default"].weight.detach()


@pytest.mark.parametrize(("stabilized", "scale"), [(False, 8 / 4), (True, 8 / math.sqrt(4))])
def test_the_update_is_scaled_by_the_rank_or_by_its_root(base, stabilized, scale):
    tuned = tuned_on(base, rank_stabilized=stabilized)
    train_a_little(tuned.model)
    a, b = factors(tuned)
    weight = load_model(base).get_submodule(Q).weight
    assert torch.allclose(weight_of(tuned), weight + scale * b @ a, atol=1e-5)


def test_dora_trains_a_norm_for_each_row_apart_from_its_direction(base):
    tuned = tuned_on(base, weight_decomposed=True)
    plain = load_model(base)
    assert torch.equal(logits(tuned.model), logits(plain)), "it starts at the base"
    norms = {name: p for name, p in trainable(tuned.model).items() if "magnitude" in name}
    rows = sum(
        m.out_features for n, m in plain.named_modules() if isinstance(m, torch.nn.Linear) and n != "lm_head"
    )
    assert sum(p.numel() for p in norms.values()) == rows
    train_a_little(tuned.model)
    a, b = factors(tuned)
    direction = plain.get_submodule(Q).weight + 2 * b @ a
    (norm,) = [p for name, p in norms.items() if Q in name]
    expected = norm[:, None] * direction / direction.norm(dim=1, keepdim=True)
    assert torch.allclose(weight_of(tuned), expected, atol=1e-5)


@pytest.mark.parametrize("stabilized", [False, True])
@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_a_split_weight_starts_at_the_base_and_is_saved_as_an_update_of_it(base, tmp_path, init, stabilized):
    tuned = tuned_on(base, init=init, rank_stabilized=stabilized)
    plain = logits(load_model(base))
    assert (logits(tuned.model) - plain).abs().max() < 1e-5
    train_a_little(tuned.model)
    trained = logits(tuned.model)
    assert (trained - plain).abs().max() > 0.01
    with tuned.disabled():
        assert torch.equal(logits(tuned.model), plain)
    assert torch.equal(logits(tuned.model), trained), "disabling is undone"
    tuned.save(tmp_path, str(base))
    again = load_peft(load_model(base), tmp_path)
    assert (logits(again.model) - trained).abs().max() < 1e-4
    with again.disabled():
        assert torch.equal(logits(again.model), plain)
    assert (logits(again.merge()) - trained).abs().max() < 1e-4


def test_pissa_starts_with_the_largest_singular_directions(base):
    weight = load_model(base).get_submodule(Q).weight.detach()
    u, s, v = torch.linalg.svd(weight)
    tuned = tuned_on(base, init="pissa")
    a, b = factors(tuned)
    assert torch.allclose(2 * b @ a, u[:, :4] * s[:4] @ v[:4], atol=1e-5)
    rest = tuned.model.base_model.model.get_submodule(Q).get_base_layer().weight
    assert torch.allclose(torch.linalg.svdvals(rest)[: len(s) - 4], s[4:], atol=1e-5)


def test_olora_starts_with_orthonormal_columns(base):
    a, b = factors(tuned_on(base, init="olora"))
    assert torch.allclose(b.T @ b, torch.eye(4), atol=1e-5)
    assert torch.equal(a, a.triu())


def test_lora_plus_gives_b_its_own_rate_in_every_step_of_the_schedule(root, base, tmp_path):
    from transformers import TrainerCallback

    method = {"kind": "lora", "r": 2, "learning_rate_ratio": 16}
    spec = spec_of(root, base, method=method, training={"steps": 6, "warmup_ratio": 0.3})
    inputs = prepare_inputs(root, spec)
    tuned = attach(spec, inputs, find_device())
    trainer, _ = _make_trainer(tuned, tmp_path, spec, inputs, find_device(), None)
    rates = []

    class Watch(TrainerCallback):
        def on_optimizer_step(self, *_, optimizer, **__):
            rates.append([group["lr"] for group in optimizer.param_groups])

    trainer.add_callback(Watch())
    trainer.train()
    assert len({rate for rate, _ in rates}) > 3, "the schedule moves"
    assert all(b == pytest.approx(16 * a) for a, b in rates)
    names = {id(p): name for name, p in tuned.model.named_parameters()}
    first, second = ([names[id(p)] for p in group["params"]] for group in trainer.optimizer.param_groups)
    assert all(".lora_A." in name for name in first)
    assert all(".lora_B." in name for name in second)
    assert len(first) + len(second) == len(trainable(tuned.model))


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"init": "pissa", "weight_decomposed": True}, "weight_decomposed"),
        ({"init": "olora", "dropout": 0.1}, "dropout"),
    ],
)
def test_what_contradicts_a_split_weight_is_refused(settings, key):
    with pytest.raises(ValidationError, match=f"{key}: "):
        Lora(**settings)
