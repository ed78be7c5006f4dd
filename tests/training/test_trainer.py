"""One optimizer step is the gradient of the mean over its label tokens, however it is cut into micro-batches."""

from pathlib import Path

import pytest
import torch
from transformers import TrainerCallback

from tasks.data.plan.plan import load_plan
from tasks.training.attach import attach
from tasks.training.batches.packed import IGNORED, PackedSequences, collate
from tasks.training.device import find_device
from tasks.training.train import _make_trainer
from tests.corpora import write_rows
from tests.tiny_base import prose
from tests.training.prepared import prepare_inputs, spec_of

METHOD_KEYS = {"full": {"kind": "full"}, "lora": {"kind": "lora", "r": 4, "alpha": 8}}


class KeepGradients(TrainerCallback):
    """Keep the gradients of the first optimizer step, as they are when the optimizer uses them."""

    def __init__(self, model) -> None:
        self.model, self.gradients = model, {}

    def on_pre_optimizer_step(self, args, state, control, **_) -> None:
        if not self.gradients:
            named = self.model.named_parameters()
            self.gradients = {
                name: p.grad.clone() for name, p in named if p.requires_grad and p.grad is not None
            }


def trainer_of(spec, inputs, scratch: Path):
    tuned = attach(spec, inputs, find_device())
    if spec.method.kind == "lora":  # B starts at zero, and A would have no gradient
        with torch.no_grad():
            for name, parameter in tuned.model.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=0.1)
    return _make_trainer(tuned, scratch, spec, inputs, find_device(), None)[0]


def first_gradients(spec, inputs, scratch: Path) -> dict[str, torch.Tensor]:
    trainer = trainer_of(spec, inputs, scratch)
    keep = KeepGradients(trainer.model)
    trainer.add_callback(keep)
    trainer.train()
    return keep.gradients


@pytest.mark.parametrize("method", METHOD_KEYS)
def test_one_batch_of_four_and_four_of_one_give_the_gradient_of_the_token_mean(root, base, tmp_path, method):
    write_rows(tmp_path / "data" / "domain.jsonl", [line[:40] for line in prose("en_*")])
    write_rows(tmp_path / "data" / "general.jsonl", prose("zh_*")[:9])
    gradients, sequences = {}, None
    for micro in (128, 64, 32):
        training = {"steps": 1, "micro_batch_tokens": micro, "max_grad_norm": 1e9}
        spec = spec_of(tmp_path / "data", base, method=METHOD_KEYS[method], training=training)
        inputs = prepare_inputs(root, spec)
        gradients[micro] = first_gradients(spec, inputs, tmp_path / str(micro))
        sequences = PackedSequences(*load_plan(inputs.plan), inputs.sources, 32, inputs.special.pad)
    batch = collate([sequences[k] for k in range(4)])
    counts = (batch["labels"] != IGNORED).sum(dim=1)
    assert len(set(counts.tolist())) > 1, "label counts must differ, or a mean of means would pass"
    expected = by_hand(spec, inputs, batch, int(counts.sum()))
    assert expected.keys() == gradients[128].keys()
    for name, gradient in expected.items():
        assert gradient.abs().max() > 0, name
        for micro in (128, 64, 32):
            assert (gradients[micro][name] - gradient).abs().max() < 1e-6, (micro, name)


def by_hand(spec, inputs, batch, labels: int) -> dict[str, torch.Tensor]:
    """Gradient of summed loss / label tokens, one sequence at a time, without the trainer."""
    trainer = trainer_of(spec, inputs, inputs.base.parent / "unused")
    model = trainer.model.train()
    for row in range(len(batch["labels"])):
        part = {name: value[row : row + 1] for name, value in batch.items()}
        count = int((part["labels"] != IGNORED).sum())
        (model(**part, use_cache=False).loss * count / labels).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def dropout_masks(model) -> list[torch.Tensor]:
    masks: list[torch.Tensor] = []
    layer = next(
        module for name, module in model.named_modules() if name.endswith("q_proj.lora_dropout.default")
    )
    layer.register_forward_hook(lambda module, inputs, output: masks.append((output == 0).clone()))
    return masks


def test_every_micro_batch_has_a_dropout_mask_of_its_own(root, base, tmp_path):
    method = {"kind": "lora", "r": 4, "dropout": 0.5}
    spec = spec_of(root, base, method=method, training={"steps": 3, "micro_batch_tokens": 32})
    trainer = trainer_of(spec, prepare_inputs(root, spec), tmp_path)
    masks = dropout_masks(trainer.model)
    trainer.train()
    assert len(masks) == 12
    assert all(0.3 < float(mask.float().mean()) < 0.7 for mask in masks)
    assert len({mask.numpy().tobytes() for mask in masks}) == 12


def test_the_data_order_is_the_plans(root, base, tmp_path):
    spec = spec_of(root, base, training={"steps": 3})
    inputs = prepare_inputs(root, spec)
    trainer = trainer_of(spec, inputs, tmp_path)
    sequences = PackedSequences(*load_plan(inputs.plan), inputs.sources, 32, inputs.special.pad)
    seen = torch.cat([batch["input_ids"] for batch in trainer.get_train_dataloader()])
    assert torch.equal(seen.cpu(), collate([sequences[k] for k in range(len(sequences))])["input_ids"])
    assert len(trainer.get_train_dataloader()) == 3
