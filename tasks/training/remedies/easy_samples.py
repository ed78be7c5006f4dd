"""FLOW: Upweighting Easy Samples in Fine-Tuning Mitigates Forgetting (Sanyal et al., 2025,
https://arxiv.org/abs/2502.02797).

Deviation: weights are scaled so that a label token's is 1 on average; the loss keeps its size.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from schemas.spec.remedies import EasySamples
from tasks.data.plan.plan import load_plan
from tasks.storage.steps import Step
from tasks.training.remedies.base import Remedy, RemedyContext
from tasks.training.remedies.parts.measure import Documents, mean_loss, measure_base
from tasks.training.remedies.parts.plan_places import WeighedPieces, unique_pieces

if TYPE_CHECKING:
    from tasks.training.methods.base import Tuned

LOSSES = "losses.npy"


def prepare(settings: EasySamples, context: RemedyContext) -> Step:
    """The base's loss of every different piece of the plan, in nats per label token: (pieces,)."""
    pieces, _ = load_plan(context.inputs.plan)

    def work(folder: Path, model: Any, documents: Documents) -> dict[str, Any]:
        np.save(folder / LOSSES, np.array([mean_loss(model, [ids]) for ids in documents]))
        return {"documents": len(documents)}

    return measure_base(context, "base-loss", __name__, unique_pieces(pieces)[0], work)


def attach(tuned: "Tuned", settings: EasySamples, context: RemedyContext, prepared: Step | None) -> Remedy:
    """Give every piece the weight that the base's loss of it asks for."""
    assert prepared is not None
    pieces, _ = load_plan(context.inputs.plan)
    losses = np.load(prepared.folder / LOSSES)[unique_pieces(pieces)[1]]
    tau = settings.temperature or float(np.median(losses))
    labels = pieces["length"].astype(np.int64) - pieces["context"]
    return WeighedPieces(pieces, weigh(losses, labels, tau), {"temperature": tau})


def weigh(
    losses: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], tau: float
) -> npt.NDArray[np.float64]:
    """exp(-loss / tau) of every piece, scaled so that a label token's weight is 1 on average: (pieces,)."""
    weights = np.exp(
        -(losses - losses.min()) / tau
    )  # the smallest loss gives 1: no weight is lost to underflow
    scaled: npt.NDArray[np.float64] = weights / np.average(weights, weights=labels)
    return scaled
