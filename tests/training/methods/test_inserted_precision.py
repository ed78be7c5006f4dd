"""Inserted modules are fp32 beside a bf16 base: under autocast, as on a GPU, and without it, as when a model is used."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tasks.training.methods.base import TrainingContext
from tasks.training.methods.parts.insertion import CONTAINER
from tasks.training.methods.registry import METHODS
from tests.training.methods.architectures import VOCAB, make

IDS = torch.arange(3, 23)[None].remainder(VOCAB)
KINDS: dict[str, dict[str, Any]] = {
    "adapter": {"size": 4},
    "adapter_pfeiffer": {"size": 4},
    "adapter_parallel": {"size": 4},
    "adapter_drop": {"size": 4},
    "mam": {"size": 4, "prefix_length": 3, "prefix_mlp_size": 8},
    "unipelt": {"size": 4, "r": 2, "prefix_length": 3, "prefix_mlp_size": 8},
    "p_tuning_template": {"template": "{v2}{text:3}{v2}{text}"},
}


def attach(kind: str, name: str) -> Any:
    torch.manual_seed(17)
    entry = METHODS[kind]
    context = TrainingContext(Path(), 1, 17, lambda: iter(()))
    return entry.attach(make(name).to(torch.bfloat16), entry.settings(**KINDS[kind]), context)


@pytest.mark.parametrize("name", ["llama", "bert"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_trains_is_fp32_and_learns_under_autocast(kind, name):
    if (kind, name) == ("p_tuning_template", "bert"):
        return
    tuned = attach(kind, name)
    trained = {n: p for n, p in tuned.model.named_parameters() if p.requires_grad}
    assert {p.dtype for p in trained.values()} == {torch.float32}
    assert {p.dtype for n, p in tuned.model.named_parameters() if not n.startswith(CONTAINER)} == {
        torch.bfloat16
    }
    with torch.autocast("cpu", torch.bfloat16):
        tuned.model.train()(input_ids=IDS).logits.float().square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in trained.values())
    assert any(p.grad.abs().max() > 0 for p in trained.values())


@pytest.mark.parametrize("name", ["llama", "bert"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_bf16_model_is_used_without_autocast(kind, name):
    if (kind, name) == ("p_tuning_template", "bert"):
        return
    tuned = attach(kind, name)
    with torch.inference_mode():
        logits = tuned.model.eval()(input_ids=IDS).logits
        with tuned.disabled():
            base = tuned.model(input_ids=IDS).logits
    assert logits.dtype == base.dtype == torch.bfloat16
    assert torch.isfinite(logits).all()
    assert torch.equal(base, make(name).to(torch.bfloat16)(input_ids=IDS).logits)
