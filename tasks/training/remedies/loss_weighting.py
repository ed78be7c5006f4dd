"""Multitask Learning (Caruana, 1997, https://doi.org/10.1023/A:1007379606734): tasks in one batch, weighted losses."""

from typing import TYPE_CHECKING

import numpy as np

from schemas.spec.remedies import LossWeighting
from tasks.data.plan.plan import load_plan
from tasks.storage.steps import Step
from tasks.training.remedies.base import Remedy, RemedyContext
from tasks.training.remedies.parts.plan_places import WeighedPieces, is_replay

if TYPE_CHECKING:
    from tasks.training.methods.base import Tuned


def attach(tuned: "Tuned", settings: LossWeighting, context: RemedyContext, prepared: Step | None) -> Remedy:
    """Give every token the factor of its role; the sum is still divided by the number of label tokens."""
    pieces, _ = load_plan(context.inputs.plan)
    return WeighedPieces(pieces, np.where(is_replay(context.spec, pieces), settings.replay, settings.domain))
