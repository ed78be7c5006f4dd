"""WiSE-FT: Robust fine-tuning of zero-shot models (Wortsman et al., 2022, https://arxiv.org/abs/2109.01903).

After training the weights go back part of the way to the base. How far is chosen on a development set of general and
domain text that was kept from training; the evaluation suites are never looked at.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from schemas.spec.remedies import WeightAveraging
from tasks.data.plan.plan import load_development
from tasks.storage.steps import Step
from tasks.training.remedies.base import Remedy, RemedyContext
from tasks.training.remedies.parts.differences import origins
from tasks.training.remedies.parts.measure import mean_loss
from tasks.training.remedies.parts.plan_places import is_replay

if TYPE_CHECKING:
    import torch

    from tasks.training.methods.base import Tuned

Documents = Sequence[npt.NDArray[Any]]


class WeightAveragingAtWork(Remedy):
    """theta = base + alpha (tuned - base), after the last step."""

    def __init__(
        self, tuned: "Tuned", settings: WeightAveraging, domain: Documents = (), general: Documents = ()
    ):
        """`domain` and `general`: the development set, documents of ids; empty where alpha is given."""
        self.tuned, self.settings = tuned, settings
        self.domain, self.general = domain, general
        self.origins = origins(tuned)
        self.curve: list[dict[str, float]] = []
        self.alpha = settings.alpha

    def finish(self) -> None:
        """Choose alpha where the weighted development loss is least, and put those weights in place."""
        ends = [parameter.detach().clone() for parameter, _ in self.origins]
        if self.alpha is None:
            for step in range(self.settings.points):
                alpha = step / (self.settings.points - 1)
                self._interpolate(ends, alpha)
                losses = [mean_loss(self.tuned.model, texts) for texts in (self.domain, self.general)]
                self.curve.append({"alpha": alpha, "domain": losses[0], "general": losses[1]})
            share = self.settings.general_weight
            best = min(self.curve, key=lambda at: (1 - share) * at["domain"] + share * at["general"])
            self.alpha = best["alpha"]
        self._interpolate(ends, self.alpha)

    def _interpolate(self, ends: "Sequence[torch.Tensor]", alpha: float) -> None:
        """Exactly the base at 0 and exactly what was trained at 1: torch.lerp counts from the nearer end."""
        import torch

        with torch.no_grad():
            for (parameter, origin), end in zip(self.origins, ends, strict=True):
                parameter.copy_(torch.lerp(origin.to(end.device), end, alpha))

    def facts(self) -> dict[str, Any]:
        """Alpha, and the development losses in nats per token that it was chosen by."""
        tokens = {
            f"{name}_tokens": sum(len(ids) - 1 for ids in texts)
            for name, texts in (("domain", self.domain), ("general", self.general))
        }
        return {"alpha": self.alpha, "curve": self.curve, **(tokens if self.curve else {})}


def attach(
    tuned: "Tuned", settings: WeightAveraging, context: RemedyContext, prepared: Step | None
) -> Remedy:
    """Remember where the weights start, and open the development set."""
    if settings.alpha is not None:
        return WeightAveragingAtWork(tuned, settings)
    pieces = load_development(context.inputs.plan)
    general = is_replay(context.spec, pieces)
    domain_texts, general_texts = (context.ids_of(pieces[chosen]) for chosen in (~general, general))
    return WeightAveragingAtWork(tuned, settings, domain_texts, general_texts)
