"""Diff pruning: Parameter-Efficient Transfer Learning with Diff Pruning (Guo et al., 2021, https://arxiv.org/abs/2012.07463)."""

import math
from typing import Any

from schemas.spec.methods.subset import DiffPruning
from tasks.training.methods.base import TrainingContext, Tuned


def attach(model: Any, settings: DiffPruning, context: TrainingContext) -> Tuned:
    """Train W + z w for every chosen matrix. w starts at zero, so training starts at the base model.

    In the last `final_ratio` of the steps the entries with the largest |z w|, a `target_ratio` of all, train without gates
    (the paper's second stage). Gates are per entry; the paper's gates per group, and deltas on embeddings, norms and
    biases, are left out.

    Raises:
        UserError: no module is named like one of settings.target_modules.
    """
    from tasks.training.methods.parts.deltas import Delta, find_places, put_deltas
    from tasks.training.methods.parts.hard_concrete import DiffPruningTuned, GatedDelta

    places, own = find_places(model, settings.target_modules, context), dict(model.named_parameters())
    deltas: dict[str, Delta] = {name: GatedDelta(own[name], settings.alpha_initial) for name in places}
    final = math.floor(context.steps * settings.final_ratio)
    return DiffPruningTuned(
        put_deltas(model, deltas, places, context), settings, context.steps - final, context.seed
    )
