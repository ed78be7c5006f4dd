"""What both contracts ask of every method: of language models (test_contract.py) and of heads (test_contract_heads.py)."""

import contextlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from tasks.data.model.folder import is_tuned
from tasks.storage.steps import Step
from tasks.training import train as training
from tasks.training.loop.progress_file import read_metrics
from tasks.training.methods.registry import METHODS
from tasks.training.models.load import load_model, load_tuned
from tests.training.methods.small import MERGE_TOLERANCE, SAVED_ROUNDS, SAVED_TOLERANCE
from tests.training.methods.tiny_models import trainable

Logits = Callable[[Any], torch.Tensor]


@contextlib.contextmanager
def seen_at_save(look: Callable[[Any], Any]) -> Iterator[list[Any]]:
    """What `look` sees of each model that is trained in the block, right before it is saved."""
    seen: list[Any] = []
    save = training._save

    def keep(tuned: Any, *rest: Any) -> Any:
        seen.append(look(tuned.model))
        return save(tuned, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "_save", keep)
        yield seen


def assert_the_loss_falls(step: Step, steps: int, start: Any, loss_of: Callable[[Any], float]) -> None:
    """On the same texts: those of two steps differ by more than a few steps teach."""
    losses = [line.loss for line in read_metrics(step.folder / "metrics.jsonl")]
    assert len(losses) == steps
    assert all(math.isfinite(loss) for loss in losses)
    folder = step.folder / "model"
    trained = load_tuned(folder).model if is_tuned(folder) else load_model(folder)
    assert loss_of(trained) < loss_of(start)


def assert_saved_as_trained(kind: str, folder: Path, logits: Logits, trained: torch.Tensor) -> None:
    """`trained`: logits of the model before it was saved."""
    again = load_tuned(folder).model if is_tuned(folder) else load_model(folder)
    difference = (logits(again) - trained).abs().max()
    assert difference <= (SAVED_TOLERANCE if kind in SAVED_ROUNDS else 0)


def assert_merged_the_same(kind: str, folder: Path, logits: Logits) -> None:
    """Also that what cannot be merged says so."""
    if not is_tuned(folder):
        return
    tuned = load_tuned(folder)
    beside = logits(tuned.model)
    assert tuned.merges == METHODS[kind].settings.merges
    if not tuned.merges:
        with pytest.raises(NotImplementedError):
            tuned.merge()
        return
    merged = tuned.merge()
    assert not [name for name, _ in merged.named_parameters() if "lora" in name or "rootstock" in name]
    assert (logits(merged) - beside).abs().max() <= MERGE_TOLERANCE.get(kind, 1e-4)


class Gradients(TrainerCallback):
    """Keeps the gradient of the first step, and stops."""

    def on_pre_optimizer_step(self, args, state, control, model, **_):
        self.first = {n: p.grad.clone() for n, p in trainable(model).items() if p.grad is not None}

    def on_step_end(self, args, state, control, **_):
        control.should_training_stop = True


def first_gradient(tuned: Any, trainer: Any) -> dict[str, torch.Tensor]:
    """Of every parameter that gets one; first moved a little, since at the start some gradients are zero."""
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in trainable(tuned.model).values():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=draw))
    gradients = Gradients()
    trainer.add_callback(gradients)
    trainer.train()
    return gradients.first


def assert_same_gradient(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    largest = max(float(gradient.abs().max()) for gradient in one.values())
    assert largest > 0
    for name, gradient in one.items():
        torch.testing.assert_close(gradient, other[name], rtol=1e-4, atol=1e-5 * largest, msg=name)
