"""Selective tuning: some layers train. Lee et al., 2023 (https://arxiv.org/abs/2210.11466) compare which to choose."""

import fnmatch
from typing import Any

from schemas.errors import UserError
from schemas.spec.methods.subset import Selective
from tasks.training.methods.base import TrainingContext, Tuned
from tasks.training.methods.parts.own_weights import (
    OwnWeights,
    find_blocks,
    gradients_of_batches,
    in_head,
    layer_of,
    train_only,
)

LAYERS = 2
GRADIENT_BATCHES = 8


class SelectiveTuned(OwnWeights):
    """Some of the model's layers."""

    norms: dict[int, float] | None = None
    """Layer -> mean norm of its gradient, where layers were chosen by it."""

    def facts(self) -> dict[str, Any]:
        """Which parameters trained, and by what they were chosen."""
        facts: dict[str, Any] = {"trained": sorted(self.originals)}
        if self.norms is not None:
            facts["gradient_norms"] = {str(layer): norm for layer, norm in self.norms.items()}
        return facts


def attach(model: Any, settings: Selective, context: TrainingContext) -> Tuned:
    """Let the chosen layers train, and nothing else. Training starts at the base model.

    Raises:
        UserError: the model has fewer layers than are to train, or no parameter matches the patterns.
    """
    if settings.choose == "patterns":
        tuned = train_only(model, _matching(model, settings.patterns), context)
        return SelectiveTuned(model, tuned.originals)
    blocks = find_blocks(model)
    total, wanted = len(model.get_submodule(blocks)), settings.layers or LAYERS
    if wanted > total:
        raise UserError(
            f"{wanted} layers are to train, but the model has {total}",
            "method.layers",
            f"give at most {total}",
        )
    norms = None
    if settings.choose == "gradient":
        norms = gradient_norms(model, blocks, context, settings.gradient_batches or GRADIENT_BATCHES)
        chosen = set(sorted(norms, key=lambda layer: (-norms[layer], layer))[:wanted])
    else:
        chosen = set(range(wanted) if settings.choose == "first" else range(total - wanted, total))
    names = {name for name, _ in model.named_parameters() if layer_of(name, blocks) in chosen}
    tuned = SelectiveTuned(model, train_only(model, names, context).originals)
    tuned.norms = norms
    return tuned


def try_on(model: Any, settings: Selective, context: TrainingContext) -> Tuned:
    """`attach` with the gradients of one micro-batch."""
    few = {"gradient_batches": 1} if settings.choose == "gradient" else {}
    return attach(model, settings.model_copy(update=few), context)


def _matching(model: Any, patterns: tuple[str, ...]) -> set[str]:
    """Names of the parameters that match a pattern.

    Raises:
        UserError: a pattern matches none.
    """
    names = [name for name, _ in model.named_parameters()]
    found: set[str] = set()
    for pattern in patterns:
        matching = set(fnmatch.filter(names, pattern))
        if not matching:
            raise UserError(
                f"no parameter of the model matches {pattern}",
                "method.patterns",
                f"use * for any part; names look like {names[0]} and {names[len(names) // 2]}",
            )
        found |= matching
    return found


def gradient_norms(model: Any, blocks: str, context: TrainingContext, batches: int) -> dict[int, float]:
    """Layer -> mean over micro-batches of the norm of the gradient of all its parameters."""
    import torch

    layers = {
        index: [
            p
            for name, p in model.named_parameters()
            if layer_of(name, blocks) == index and not in_head(name, context)
        ]
        for index in range(len(model.get_submodule(blocks)))
    }
    sums = dict.fromkeys(layers, 0.0)

    def take() -> None:
        for index, parameters in layers.items():
            gradients = [p.grad.float().norm() for p in parameters if p.grad is not None]
            sums[index] += float(torch.stack(gradients).norm())

    count = gradients_of_batches(model, context, batches, take)
    return {index: total / count for index, total in sums.items()}
