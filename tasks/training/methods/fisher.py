"""FISH mask: Training Neural Networks with Fixed Sparse Masks (Sung et al., 2021, https://arxiv.org/abs/2111.09839)."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from schemas.errors import UserError
from schemas.spec.methods.subset import Fisher
from tasks.training.methods.base import TrainingContext, Tuned

if TYPE_CHECKING:
    import torch

IGNORED = -100


def attach(model: Any, settings: Fisher, context: TrainingContext) -> Tuned:
    """Train the `trainable_ratio` of all entries with the largest empirical Fisher information, equation 6: the mean over
    documents of the squared gradient of a document's log-likelihood. Training starts at the base model.

    Raises:
        UserError: no module is named like one of settings.target_modules.
    """
    from tasks.training.methods.parts.deltas import choose_sparse, count_of, find_places, largest

    context.require_one_task("it measures gradients of the labels' likelihood among all outputs")
    places = find_places(model, settings.target_modules, context)
    scores = squared_gradients(model, list(places), context, settings.samples)
    k = count_of(settings.trainable_ratio, sum(score.numel() for score in scores.values()))
    return choose_sparse(model, largest(scores, k), places, context)


def try_on(model: Any, settings: Fisher, context: TrainingContext) -> Tuned:
    """`attach` with the gradients of one document."""
    return attach(model, settings.model_copy(update={"samples": 1}), context)


def squared_gradients(
    model: Any, names: list[str], context: TrainingContext, samples: int
) -> "dict[str, torch.Tensor]":
    """Mean over up to `samples` documents of the squared gradient of each entry, by tensor name.

    Raises:
        UserError: there is no document with a label.
    """
    import torch

    from tasks.training.device import find_device

    device = find_device()
    model.to(device.name).requires_grad_(False)
    model.eval()
    own = dict(model.named_parameters())
    for name in names:
        own[name].requires_grad_(True)
    sums = {name: torch.zeros_like(own[name], dtype=torch.float32) for name in names}
    done = 0
    for document, labels in documents(context.batches()):
        if done == samples:
            break
        model.zero_grad(set_to_none=True)
        with torch.autocast(device.name, torch.bfloat16, enabled=device.autocast):
            mean = model(
                **{key: value.to(device.name) for key, value in document.items()}, use_cache=False
            ).loss
        (mean * labels).backward()
        for name in names:
            if (gradient := own[name].grad) is not None:
                sums[name] += gradient.float().square()
        done += 1
    if done == 0:
        raise UserError("there is no document to measure gradients on", "method.samples", "add training text")
    model.zero_grad(set_to_none=True)
    return {name: total / done for name, total in sums.items()}


def documents(
    batches: "Iterator[dict[str, torch.Tensor]]",
) -> "Iterator[tuple[dict[str, torch.Tensor], int]]":
    """Every document of the batches as a batch of its own, (1, T), with its number of labels.

    Packed documents begin where position_ids do; rows that are not packed end with their attention_mask.
    """
    for batch in batches:
        for row in range(len(batch["input_ids"])):
            labels = batch["labels"][row]
            for piece in _pieces(batch, row):
                own = labels if labels.dim() == 0 else labels[piece]
                count = int((own != IGNORED).sum())
                if count:
                    yield {"input_ids": batch["input_ids"][row, piece][None], "labels": own[None]}, count


def _pieces(batch: "dict[str, torch.Tensor]", row: int) -> list[slice]:
    if "position_ids" not in batch:
        return [slice(0, int(batch["attention_mask"][row].sum()))]
    starts = (batch["position_ids"][row] == 0).nonzero().flatten().tolist()
    ends = [*starts[1:], len(batch["position_ids"][row])]
    return [slice(start, end) for start, end in zip(starts, ends, strict=True)]
