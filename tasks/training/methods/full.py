"""Full fine-tuning: every parameter trains; on request pulled towards where it started.

L2-SP: Li et al., 2018, https://arxiv.org/abs/1802.01483. Decoupled: as AdamW's weight decay (Loshchilov and Hutter,
2019, https://arxiv.org/abs/1711.05101), towards the base instead of zero.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from schemas.spec.methods.union import Full
from tasks.training.methods.base import TrainingContext, Tuned
from tasks.training.methods.parts.own_weights import WholeModel, in_head

if TYPE_CHECKING:
    import torch


class AnchoredTuned(WholeModel):
    """All weights, each pulled towards its value in the base."""

    def __init__(self, model: Any, settings: Full, context: TrainingContext):
        super().__init__(model)
        self.settings = settings
        # a new head has no value in the base
        self.originals = {
            name: parameter.detach().clone()
            for name, parameter in model.named_parameters()
            if not in_head(name, context)
        }

    def _pairs(self) -> "Iterator[tuple[torch.nn.Parameter, torch.Tensor]]":
        own = dict(self.model.named_parameters())
        for name, original in self.originals.items():
            if original.device != own[name].device:
                self.originals[name] = original = original.to(own[name].device)
            yield own[name], original

    def penalty(self) -> "torch.Tensor | None":
        """L2-SP, equation 2: alpha / 2 times the squared distance to the base."""
        import torch

        if self.settings.anchor != "l2_sp":
            return None
        distances = [(parameter - original).square().sum() for parameter, original in self._pairs()]
        return self._strength / 2 * torch.stack(distances).sum()

    @property
    def _strength(self) -> float:
        assert self.settings.anchor_strength is not None, "the schema has it with every anchor"
        return self.settings.anchor_strength

    def decay(self, learning_rate: float) -> None:
        """Go back learning rate x strength of the way to the base."""
        import torch

        with torch.no_grad():
            for parameter, original in self._pairs():
                parameter.lerp_(original, learning_rate * self._strength)

    def callbacks(self) -> list[Any]:
        """Decay after each optimizer step, with the learning rate that the step had."""
        from transformers import TrainerCallback

        if self.settings.anchor != "decay_to_base":
            return []
        tuned = self

        class Decay(TrainerCallback):
            def on_optimizer_step(self, args: Any, state: Any, control: Any, **given: Any) -> None:
                tuned.decay(given["optimizer"].param_groups[0]["lr"])

        return [Decay()]

    def facts(self) -> dict[str, Any]:
        """How far the weights are from the base in the end."""
        squares = [(parameter.detach() - original).square().sum() for parameter, original in self._pairs()]
        return {"distance_to_base": float(sum(float(square) for square in squares)) ** 0.5}


def attach(model: Any, settings: Full, context: TrainingContext) -> Tuned:
    """Train all weights of the model."""
    model.requires_grad_(True)
    return WholeModel(model) if settings.anchor == "none" else AnchoredTuned(model, settings, context)
