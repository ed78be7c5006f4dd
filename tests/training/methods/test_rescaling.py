"""(IA)^3, VeRA and OSF: what trains, by the papers' formulas, and what it computes."""

import pytest
import torch

from schemas.errors import UserError
from schemas.spec.methods.peft import Ia3, Osf, Vera
from tasks.training.methods import ia3, osf, vera
from tasks.training.models.load import load_model
from tests.training.methods.tiny_models import context, logits, tiny_bert, train_a_little, trainable

LAYERS, HIDDEN, KEYS, INNER = 2, 16, 8, 32
"""Of the tiny Llama; its keys and values have half the heads."""


def size(model):
    return sum(p.numel() for p in trainable(model).values())


def test_ia3_trains_three_vectors_a_layer(base):
    tuned = ia3.attach(load_model(base), Ia3(), context())
    assert size(tuned.model) == LAYERS * (KEYS + KEYS + INNER)


def test_ia3_rescales_keys_values_and_inner_activations(base):
    tuned = ia3.attach(load_model(base), Ia3(), context())
    train_a_little(tuned.model)
    plain = load_model(base)
    with torch.no_grad():
        for name, vector in trainable(tuned.model).items():
            layer = plain.get_submodule(name.removeprefix("base_model.model.").split(".ia3_l")[0])
            scale = vector.detach().flatten()
            layer.weight.copy_(layer.weight * (scale if "down_proj" in name else scale[:, None]))
    assert (logits(plain) - logits(tuned.model)).abs().max() < 1e-5


def test_ia3_leaves_the_attention_output_of_bert_alone():
    """BERT calls its attention output and its second feed-forward matrix the same: output.dense."""
    tuned = ia3.attach(tiny_bert(), Ia3(), context(("classifier",)))
    names = {name.split(".ia3_l")[0].split("layer.")[1] for name in trainable(tuned.model) if "ia3_l" in name}
    assert names == {
        f"{i}.{part}"
        for i in (0, 1)
        for part in ("attention.self.key", "attention.self.value", "output.dense")
    }


def test_ia3_cannot_tell_keys_from_a_fused_matrix():
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2, n_positions=32))
    with pytest.raises(UserError, match="projections of keys and values cannot be told") as error:
        ia3.attach(model, Ia3(), context())
    assert error.value.where == "method.target_modules"
    assert "c_attn" in error.value.fix
    told = Ia3(target_modules=("c_attn",), feedforward_modules=("mlp.c_proj",))
    assert size(ia3.attach(model, told, context()).model) == 3 * 16 + 64


def test_ia3_rescales_no_module_twice(base):
    with pytest.raises(UserError, match="k_proj cannot be rescaled at both ends"):
        ia3.attach(
            load_model(base), Ia3(feedforward_modules=("k_proj",), target_modules=("k_proj",)), context()
        )


def test_vera_trains_two_vectors_a_matrix_and_shares_the_rest(base):
    tuned = vera.attach(load_model(base), Vera(r=8), context())
    outputs = LAYERS * (2 * HIDDEN + 2 * KEYS + 2 * INNER + HIDDEN)
    assert size(tuned.model) == LAYERS * 7 * 8 + outputs
    layers = [m for m in tuned.model.modules() if hasattr(m, "vera_lambda_b") and hasattr(m, "base_layer")]
    assert len({id(layer.vera_A["default"]) for layer in layers}) == 1
    assert all((layer.vera_lambda_d["default"] == 0.1).all() for layer in layers)


def test_vera_adds_the_scaled_random_product(base):
    tuned = vera.attach(load_model(base), Vera(r=8), context())
    train_a_little(tuned.model)
    layer = tuned.model.base_model.model.get_submodule("model.layers.1.mlp.down_proj")
    a, b = layer.vera_A["default"][:, :INNER], layer.vera_B["default"][:HIDDEN]
    d, scale = layer.vera_lambda_d["default"], layer.vera_lambda_b["default"]
    weight = layer.base_layer.weight + scale[:, None] * (b @ (d[:, None] * a))
    x = torch.randn(3, INNER)
    with torch.no_grad():
        assert torch.allclose(layer.eval()(x), x @ weight.T, atol=1e-5)


def test_vera_draws_its_matrices_from_the_seed(base):
    drawn = []
    for seed in (1, 1, 2):
        tuned = vera.attach(load_model(base), Vera(r=8), context(seed=seed))
        drawn.append(next(p for name, p in tuned.model.named_buffers() if "vera_A" in name).clone())
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_osf_trains_the_small_directions_orthogonally_to_the_large_ones(base):
    tuned = osf.attach(load_model(base), Osf(preserved_ratio=0.75), context())
    plain = load_model(base)
    assert (logits(tuned.model) - logits(plain)).abs().max() < 1e-5
    weights = [
        m.weight for n, m in plain.named_modules() if isinstance(m, torch.nn.Linear) and n != "lm_head"
    ]
    ranks = [min(w.shape) - int(0.75 * min(w.shape)) for w in weights]
    assert size(tuned.model) == sum(r * (sum(w.shape) + 1) for r, w in zip(ranks, weights, strict=True))
    tuned.model(input_ids=torch.arange(3, 20)[None], labels=torch.arange(3, 20)[None]).loss.backward()
    name = "model.layers.0.mlp.up_proj"
    u = torch.linalg.svd(plain.get_submodule(name).weight.detach(), full_matrices=False)[0][:, :12]
    gradient = tuned.model.base_model.model.get_submodule(name).osf_svd_params["default"]["U_low"].grad
    assert gradient.abs().max() > 0
    assert (u.T @ gradient).abs().max() < 1e-6 * gradient.abs().max() + 1e-8


def test_osf_keeps_the_large_directions_of_the_weight_through_plain_gradient_steps(base):
    tuned = osf.attach(load_model(base), Osf(), context())
    optimizer = torch.optim.SGD([p for p in tuned.model.parameters() if p.requires_grad], lr=1.0)
    ids = torch.arange(3, 20)[None]
    for _ in range(3):
        tuned.model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    merged, plain = tuned.merge(), load_model(base)
    name = "model.layers.0.mlp.up_proj.weight"
    before, after = plain.get_parameter(name).detach(), merged.get_parameter(name).detach()
    u, s, v = torch.linalg.svd(before, full_matrices=False)
    assert (after - before).abs().max() > 1e-4
    assert torch.allclose(u[:, :8].T @ after @ v[:8].T, torch.diag(s[:8]), atol=1e-4)
