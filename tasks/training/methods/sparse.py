"""Sparse tuning with a random mask: SHiRA, Sparse High Rank Adapters (Bhardwaj et al., 2024, https://arxiv.org/abs/2406.13175)."""

from pathlib import Path
from typing import Any

from schemas.spec.methods.subset import Sparse
from tasks.training.methods.base import TrainingContext, Tuned


def attach(model: Any, settings: Sparse, context: TrainingContext) -> Tuned:
    """Train a random `trainable_ratio` of the entries of every chosen matrix. Training starts at the base model.

    Raises:
        UserError: no module is named like one of settings.target_modules.
    """
    import torch

    from tasks.training.methods.parts.deltas import choose_sparse, count_of, find_places

    places, own = find_places(model, settings.target_modules, context), dict(model.named_parameters())
    generator = torch.Generator().manual_seed(context.seed)
    chosen = {}
    for name in places:
        size = own[name].numel()
        picked = torch.randperm(size, generator=generator)[: count_of(settings.trainable_ratio, size)]
        chosen[name] = picked.sort().values
    return choose_sparse(model, chosen, places, context)


def load(model: Any, folder: Path, settings: Any) -> Tuned:
    """Put saved entries on the base, whichever method chose them."""
    from tasks.training.methods.parts.deltas import load_sparse

    return load_sparse(model, folder, settings)
