"""AdapterDrop: which blocks go without is a pure function of seed and step, and those blocks compute nothing of ours."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from schemas.errors import UserError
from schemas.spec.methods.adapters import AdapterDrop
from tasks.release.export.drop_blocks import export_with_dropped
from tasks.training.attach import attach as attach_run
from tasks.training.methods import adapter_drop
from tasks.training.methods.adapter_drop import blocks_dropped
from tasks.training.methods.base import TrainingContext
from tasks.training.models.load import load_tuned
from tasks.training.train import _make_trainer
from tests.training.methods.architectures import VOCAB, make
from tests.training.prepared import prepare_inputs, spec_of, train_here

IDS = torch.arange(3, 23)[None].remainder(VOCAB)


def attach(settings):
    torch.manual_seed(17)
    tuned = adapter_drop.attach(make("llama"), settings, TrainingContext(Path(), 1, 17, lambda: iter(())))
    with torch.no_grad():
        for parameter in tuned.modules().parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return tuned


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=IDS).logits


def test_every_number_of_blocks_but_all_is_drawn_as_often_as_another():
    draws = [blocks_dropped(17, step, 6) for step in range(3000)]
    assert [blocks_dropped(17, step, 6) for step in range(3000)] == draws
    assert [blocks_dropped(18, step, 6) for step in range(3000)] != draws
    counts = torch.bincount(torch.tensor(draws))
    assert len(counts) == 6, "0 to 5 of 6 blocks"
    assert counts.min() > 400
    assert counts.max() < 600


def test_a_training_drops_what_is_drawn_for_each_step(root, base, tmp_path):
    method = {"kind": "adapter_drop", "size": 4}
    spec = spec_of(root, base, method=method, training={"steps": 8, "micro_batch_tokens": 32})
    inputs = prepare_inputs(root, spec)
    from tasks.training.device import find_device

    tuned = attach_run(spec, inputs, find_device())
    trainer = _make_trainer(tuned, tmp_path, spec, inputs, find_device(), None)[0]
    seen: list[tuple[int, int]] = []  # (step, blocks without adapters) of each forward pass
    ran: list[tuple[int, int]] = []  # (forward pass, block whose adapter computed)
    tuned.model.register_forward_pre_hook(
        lambda *_: seen.append((trainer.state.global_step, tuned.first_block))
    )
    for number in (0, 1):
        tuned.modules()[f"block_{number}_feed_forward"].register_forward_hook(
            lambda *_, number=number: ran.append((len(seen) - 1, number))
        )
    trainer.train()
    drawn = [(step, blocks_dropped(17, step, 2)) for step in range(8)]
    assert sorted(set(seen)) == drawn
    assert len({first for _, first in drawn}) == 2
    assert set(ran) == {(call, number) for call, (_, first) in enumerate(seen) for number in range(first, 2)}


def test_dropped_blocks_compute_as_the_base_and_the_rest_as_before():
    tuned = attach(AdapterDrop(size=4))
    all_kept = logits(tuned.model)
    tuned.drop(2)
    without = logits(tuned.model)
    tuned.drop(1)
    one_kept = logits(tuned.model)
    assert torch.equal(without, logits(make("llama")))
    with torch.no_grad():
        tuned.modules()["block_0_feed_forward"].up.weight.zero_()
        tuned.modules()["block_0_feed_forward"].up.bias.zero_()
    tuned.drop(0)
    assert torch.allclose(logits(tuned.model), one_kept, atol=1e-6)
    assert not torch.allclose(one_kept, all_kept, atol=1e-2)


def test_specialized_training_has_no_adapters_in_the_dropped_blocks(root, base, tmp_path):
    method = {"kind": "adapter_drop", "size": 4, "training": "specialized", "drop_blocks": 1}
    folder = (
        train_here(root, spec_of(root, base, method=method, training={"steps": 2}), tmp_path).folder / "model"
    )
    assert {name.split(".")[1] for name in load_file(folder / "inserted.safetensors")} == {
        "block_1_feed_forward"
    }
    tuned = load_tuned(folder)
    with pytest.raises(UserError, match="cannot go without"):
        tuned.drop(0)


def test_what_the_settings_leave_out_is_left_out_of_a_loaded_model(root, base, tmp_path):
    method = {"kind": "adapter_drop", "size": 4, "drop_blocks": 1}
    training = {"steps": 4, "learning_rate": 0.1}
    folder = (
        train_here(root, spec_of(root, base, method=method, training=training), tmp_path).folder / "model"
    )
    tuned = load_tuned(folder)
    assert tuned.first_block == 1
    as_loaded = logits(tuned.model)
    tuned.drop(0)
    assert not torch.equal(logits(tuned.model), as_loaded), "robust training keeps the other adapters too"


def test_no_gradient_goes_below_the_lowest_adapter():
    tuned = attach(AdapterDrop(size=4))
    tuned.drop(1)
    seen = {}
    tuned.architecture.blocks[0].module.register_forward_hook(lambda m, a, o: seen.update(first=o))
    tuned.model(input_ids=IDS).logits.sum().backward()
    hidden = seen["first"][0] if isinstance(seen["first"], tuple) else seen["first"]
    assert not hidden.requires_grad
    assert tuned.modules()["block_1_feed_forward"].up.weight.grad.abs().max() > 0


def test_dropping_every_block_is_refused():
    with pytest.raises(UserError, match="all 2 blocks would lose") as error:
        attach(AdapterDrop(size=4, drop_blocks=2))
    assert error.value.where == "method.drop_blocks"
    assert "at most 1" in error.value.fix


def test_specialized_needs_a_number_of_blocks():
    with pytest.raises(ValueError, match="drops nothing"):
        AdapterDrop(training="specialized")


def test_an_export_can_leave_out_more_blocks_than_the_training_said(root, base, tmp_path):
    method = {"kind": "adapter_drop", "size": 4}
    training = {"steps": 4, "learning_rate": 0.1}
    folder = (
        train_here(root, spec_of(root, base, method=method, training=training), tmp_path).folder / "model"
    )
    said = export_with_dropped(folder, tmp_path / "light", 1)
    assert "lowest 1 blocks compute without" in said
    tuned = load_tuned(folder)
    assert not torch.equal(logits(load_tuned(tmp_path / "light").model), logits(tuned.model))
    tuned.drop(1)
    assert torch.equal(logits(load_tuned(tmp_path / "light").model), logits(tuned.model))
    with pytest.raises(UserError, match="all 2 blocks would lose"):
        export_with_dropped(folder, tmp_path / "none", 2)
    assert not (tmp_path / "none").exists()
    with pytest.raises(UserError, match="exists already"):
        export_with_dropped(folder, tmp_path / "light", 0)


def test_only_robust_adapters_can_be_left_out_of_an_export(root, base, tmp_path):
    spec = spec_of(root, base, method={"kind": "adapter_pfeiffer", "size": 4}, training={"steps": 1})
    folder = train_here(root, spec, tmp_path).folder / "model"
    for model in (folder, base):
        with pytest.raises(UserError, match="not trained to do without") as error:
            export_with_dropped(model, tmp_path / "light", 1)
        assert "adapter_drop" in error.value.fix
