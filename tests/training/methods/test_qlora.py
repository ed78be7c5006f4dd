"""QLoRA's base really is in 4 bits, stays so when it is loaded, and is dequantised to be merged."""

import pytest
import torch

from schemas.errors import UserError
from schemas.spec.methods.peft import Qlora
from tasks.release.export import export
from tasks.release.export.export import export_model
from tasks.training.methods import qlora
from tasks.training.methods.registry import METHODS
from tasks.training.models.counts import numbers
from tasks.training.models.heads import Head
from tasks.training.models.load import load_base, load_model, load_tuned, load_with_head
from tests.tiny_encoder import make_encoder
from tests.training.methods.tiny_models import context, logits
from tests.training.prepared import spec_of, train_here

METHOD = {"kind": "qlora", "r": 4, "alpha": 16}
LAYER = "model.layers.0.mlp.up_proj"
NF4 = [-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
       -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
       0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0]  # fmt: skip
"""The paper's appendix E."""


@pytest.fixture(scope="module")
def base(wide_base):
    return wide_base


def quantised(base, **settings):
    return load_base(base, None, qlora.base_settings(Qlora(**settings)))


@pytest.fixture(scope="module")
def trained(root, base, tmp_path_factory):
    spec = spec_of(root, base, method=METHOD, training={"steps": 6, "learning_rate": 0.1})
    return train_here(root, spec, tmp_path_factory.mktemp("qlora")).folder / "model"


def test_a_weight_takes_four_bits_and_is_one_of_sixteen_values(base):
    model, plain = quantised(base), load_model(base).get_submodule(LAYER).weight.detach()
    layer = model.get_submodule(LAYER)
    assert layer.weight.numel() * layer.weight.element_size() == plain.numel() / 2
    assert sum(map(numbers, model.parameters())) == sum(p.numel() for p in load_model(base).parameters())
    assert model.lm_head.weight.dtype == torch.float32, "the output head is not quantised"
    blocks = (
        qlora.dequantize(quantised(base, double_quantization=False))
        .get_submodule(LAYER)
        .weight.flatten()
        .view(-1, 64)
    )
    wanted = plain.flatten().view(-1, 64)
    largest = wanted.abs().amax(dim=1, keepdim=True)
    distance = (blocks / largest)[..., None] - torch.tensor(NF4)
    assert distance.abs().amin(dim=-1).max() < 1e-5, "each weight is one of the sixteen values"
    nearest = ((wanted / largest)[..., None] - torch.tensor(NF4)).abs().amin(dim=-1)
    assert ((blocks - wanted).abs() / largest - nearest).max() < 1e-3, "and the nearest of them"


def test_double_quantisation_quantises_the_constants(base):
    states = [
        quantised(base, double_quantization=double).get_submodule(LAYER).weight.quant_state
        for double in (True, False)
    ]
    assert [state.absmax.dtype for state in states] == [torch.uint8, torch.float32]


def test_the_loaded_model_keeps_its_base_in_four_bits(trained):
    model = load_model(trained)
    assert model.base_model.model.get_submodule(LAYER).base_layer.weight.dtype == torch.uint8
    assert not load_tuned(trained).merges


def test_a_merged_export_computes_what_the_four_bit_base_and_the_adapter_do(trained, base, tmp_path):
    said = export_model(trained, tmp_path / "out", merge=True)
    assert "mean KL divergence" in said
    merged = load_model(tmp_path / "out")
    weight = merged.get_submodule(LAYER).weight
    assert weight.dtype == torch.float32
    assert (logits(merged) - logits(load_model(trained))).abs().max() < 1e-4
    assert (logits(merged) - logits(load_model(base))).abs().max() > 0.01, "the tune is in it"


def test_merging_into_the_original_base_would_be_noticed(trained, base, tmp_path, monkeypatch):
    """The base before quantisation is another model: adapters are trained against the rounded weights."""
    from tasks.training.methods.parts.peft_backed import load_peft_model

    def careless(self, folder):
        return load_peft_model(load_base(base), folder).merge_and_unload()

    monkeypatch.setattr(qlora.QloraTuned, "dequantized", careless)
    with pytest.raises(UserError, match="not equivalent"):
        export_model(trained, tmp_path / "out", merge=True)
    assert not (tmp_path / "out").exists()


def test_predictions_that_drift_are_not_equivalent_either(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "MEAN_KL", -1.0)
    with pytest.raises(UserError, match="nats on average"):
        export_model(trained, tmp_path / "out", merge=True)


def test_a_base_that_is_not_in_four_bits_is_refused(base):
    with pytest.raises(UserError, match="not loaded in 4 bits") as error:
        qlora.attach(load_model(base), Qlora(), context())
    assert "lora" in error.value.fix


def test_widths_that_the_cpu_computes_wrongly_are_refused(tmp_path):
    from tests.tiny_base import make_base

    with pytest.raises(UserError, match="its width 16 is not a multiple of 64") as error:
        qlora.attach(quantised(make_base(tmp_path / "narrow")), Qlora(), context())
    assert "GPU" in error.value.fix


def test_weights_are_never_repacked_to_where_no_gradient_flows(base, monkeypatch):
    from bitsandbytes.nn import modules

    monkeypatch.setattr(modules, "has_avx512bf16", lambda: True)  # as on a newer CPU
    model = quantised(base)
    logits(model)
    states = [m.weight.quant_state for m in model.modules() if isinstance(m, modules.Linear4bit)]
    assert len(states) == 14
    assert not any(getattr(state, "packing_format_for_cpu", False) for state in states)


def test_an_adapter_is_no_base_to_quantise(root, base, trained):
    with pytest.raises(UserError, match="cannot be loaded quantised"):
        load_base(trained, None, METHODS["qlora"].base_settings(Qlora()))


@pytest.mark.parametrize("kind", ["text_classification", "token_classification"])
@pytest.mark.parametrize("encoder", [True, False])
def test_a_new_head_stays_out_of_the_quantisation_and_trains(kind, encoder, base, tmp_path):
    folder = make_encoder(tmp_path / "encoder", width=64) if encoder else base
    head = Head(kind, ("a", "b", "c"), 0)
    settings = Qlora(r=4)
    loaded = load_with_head(folder, head, None, 3, qlora.base_settings(settings))
    tuned = qlora.attach(loaded.model, settings, context(loaded.new, []))
    names = {name: p for name, p in tuned.model.named_parameters() if p.requires_grad}
    assert any("classifier" in name or "score" in name for name in names), names
    assert all(p.dtype == torch.float32 for p in names.values())
    ids = torch.arange(3, 11).repeat(2, 1)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    before = tuned.model(**batch).logits.detach()
    labels = torch.tensor([0, 2]) if kind == "text_classification" else ids.remainder(3)
    optimizer = torch.optim.SGD(names.values(), lr=0.01)
    first = tuned.model(**batch, labels=labels).loss
    for _ in range(5):
        optimizer.zero_grad()
        loss = tuned.model(**batch, labels=labels).loss
        loss.backward()
        optimizer.step()
    assert loss < first
    assert not torch.equal(tuned.model(**batch).logits, before)
    assert any(hasattr(m.weight, "quant_state") for m in tuned.model.modules() if hasattr(m, "weight")), (
        "4 bits"
    )
