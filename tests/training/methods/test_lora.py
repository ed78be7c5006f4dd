"""LoRA trains its matrices and nothing else, and what is saved is what was trained."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from schemas.errors import UserError
from schemas.spec.methods.union import Lora
from tasks.data.model.folder import model_sha256
from tasks.release.export import export
from tasks.release.export.export import export_model
from tasks.training.inputs import TrainingInputs
from tasks.training.methods import lora
from tasks.training.methods.base import TrainingContext
from tasks.training.models.base_model import provide_base
from tasks.training.models.load import load_model
from tasks.training.train import train
from tests.training.methods.promises import seen_at_save
from tests.training.prepared import prepare_inputs, spec_of, train_here

IDS = torch.arange(3, 40)[None]
METHOD = {"kind": "lora", "r": 4, "alpha": 16}
LINEAR = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def attach(model, settings):
    """The model with the method on it."""
    return lora.attach(model, settings, TrainingContext(Path(), 1, 17, lambda: iter(()))).model


def logits(model) -> torch.Tensor:
    with torch.inference_mode():
        return model.eval()(input_ids=IDS).logits


@pytest.fixture(scope="module")
def trained(root, base, tmp_path_factory):
    """The folder of an adapter trained with a large rate, so that it matters."""
    spec = spec_of(root, base, method=METHOD, training={"steps": 6, "learning_rate": 0.5})
    return train_here(root, spec, tmp_path_factory.mktemp("lora")).folder / "model"


def test_training_starts_at_the_base_model(base):
    model = load_model(base)
    before = logits(model)
    assert torch.equal(logits(attach(model, Lora(r=4))), before)


def test_exactly_the_matrices_train(base):
    model = attach(load_model(base), Lora(r=4))
    trainable = {name: p.shape for name, p in model.named_parameters() if p.requires_grad}
    assert all(".lora_A." in name or ".lora_B." in name for name in trainable)
    assert len(trainable) == 2 * 2 * len(LINEAR)
    assert {name.split(".")[-4] for name in trainable} == LINEAR
    assert all(4 in shape for shape in trainable.values())


def test_named_modules_alone_get_an_update(base):
    model = attach(load_model(base), Lora(r=2, target_modules=("q_proj", "down_proj")))
    trainable = {name.split(".")[-4] for name, p in model.named_parameters() if p.requires_grad}
    assert trainable == {"q_proj", "down_proj"}


def test_a_module_the_model_does_not_have_is_named_with_those_it_has(base):
    with pytest.raises(UserError, match="no linear layer named qproj, x") as error:
        attach(load_model(base), Lora(target_modules=("qproj", "v_proj", "x")))
    assert error.value.where == "method.target_modules"
    assert "down_proj" in error.value.fix


def test_a_trained_adapter_holds_the_matrices_alone_and_names_its_base(trained, base):
    tensors = load_file(trained / "adapter_model.safetensors")
    assert len(tensors) == 2 * 2 * len(LINEAR)
    assert all("lora_" in name for name in tensors)
    config = json.loads((trained / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(base)
    assert (config["r"], config["lora_alpha"]) == (4, 16)


def test_a_trained_adapter_loads_as_the_model_it_is(trained, base):
    from peft import PeftModel

    plain = logits(load_model(base))
    beside = logits(PeftModel.from_pretrained(load_model(base), str(trained)))
    assert (beside - plain).abs().max() > 0.05, "the adapter changed nothing"
    assert (logits(load_model(trained)) - beside).abs().max() < 1e-3, "merging rounds, and no more"


def test_what_is_saved_is_what_was_trained(root, base, tmp_path):
    from peft import PeftModel

    spec = spec_of(root, base, method=METHOD, training={"steps": 4, "learning_rate": 0.5})
    with seen_at_save(logits) as held:
        folder = train_here(root, spec, tmp_path).folder / "model"
    again = PeftModel.from_pretrained(load_model(base), str(folder))
    assert torch.equal(logits(again), held[0])


def test_the_base_does_not_change(root, base, tmp_path):
    before = model_sha256(base)
    spec = spec_of(root, base, method=METHOD, training={"steps": 2})
    train_here(root, spec, tmp_path)
    assert model_sha256(base) == before


def test_a_merged_export_computes_what_base_and_adapter_do(trained, tmp_path):
    said = export_model(trained, tmp_path / "out", merge=True)
    assert "merged weights" in said
    assert not (tmp_path / "out" / "adapter_config.json").exists()
    assert (logits(load_model(tmp_path / "out")) - logits(load_model(trained))).abs().max() < 1e-4
    assert (tmp_path / "out" / "tokenizer.json").is_file()


def test_an_export_that_is_not_equivalent_is_taken_back(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    with pytest.raises(UserError, match="not equivalent"):
        export_model(trained, tmp_path / "out", merge=True)
    assert not (tmp_path / "out").exists()


def test_an_adapter_on_a_champion_finds_it_again(root, base, trained, tmp_path):
    """The champion is itself an adapter: the new one is trained beside base and champion merged."""
    spec = spec_of(root, base, method=METHOD, training={"steps": 3, "learning_rate": 0.5})
    again = spec.model_copy(update={"base": None, "base_from": "champion"})
    champion = provide_base(root, again, None, trained)
    assert champion.name == "champion of test"
    inputs = prepare_inputs(root, spec)
    step = train(
        tmp_path,
        again,
        TrainingInputs(champion.folder, champion.reference, inputs.plan, inputs.sources, inputs.special),
    )
    difference = (logits(load_model(step.folder / "model")) - logits(load_model(trained))).abs().max()
    assert 0.01 < difference < 100
