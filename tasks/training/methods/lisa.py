"""LISA: Layerwise Importance Sampling for Memory-Efficient Fine-Tuning (Pan et al., 2024, https://arxiv.org/abs/2403.17919)."""

from typing import TYPE_CHECKING, Any

from schemas.errors import UserError
from schemas.spec.methods.subset import Lisa
from tasks.training.methods.base import TrainingContext, Tuned
from tasks.training.methods.parts.own_weights import WholeModel, find_blocks

if TYPE_CHECKING:
    import torch


class LisaTuned(WholeModel):
    """All weights of the model, of its layers a few at a time."""

    def __init__(self, model: Any, settings: Lisa, context: TrainingContext, blocks: str):
        super().__init__(model)
        self.settings, self.context = settings, context
        self.blocks = list(model.get_submodule(blocks))
        self._active: tuple[int, ...] | None = None

    def layers_of(self, step: int) -> tuple[int, ...]:
        """Which layers train in the optimizer step after `step` others: a pure function of (seed, step)."""
        import numpy as np

        draw = np.random.default_rng([self.context.seed, step // self.settings.interval])
        return tuple(sorted(draw.choice(len(self.blocks), self.settings.layers, replace=False).tolist()))

    def choose_layers(self, step: int, optimizer: Any) -> None:
        """Let this step's layers train; those that rest lose their optimizer state, as AdamW begins anew in the paper."""
        active = self.layers_of(step)
        if active == self._active:
            return
        self._active = active
        for index, block in enumerate(self.blocks):
            block.requires_grad_(index in active)
            if index not in active:
                for parameter in block.parameters():
                    parameter.grad = None
                    optimizer.state.pop(parameter, None)

    def callbacks(self) -> list[Any]:
        """Choose the layers before each optimizer step."""
        from transformers import TrainerCallback

        tuned = self

        class Draw(TrainerCallback):
            def on_step_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
                tuned.choose_layers(state.global_step, given["optimizer"])

        return [Draw()]

    def finish(self) -> None:
        """What is told of the model afterwards counts every layer: all of them may have trained."""
        self.model.requires_grad_(True)

    def facts(self) -> dict[str, Any]:
        """How many steps each layer trained."""
        steps = [self.layers_of(step) for step in range(self.context.steps)]
        return {
            "layer_steps": {
                str(index): sum(index in active for active in steps) for index in range(len(self.blocks))
            }
        }

    def state(self) -> "dict[str, torch.Tensor]":
        """Every weight: those that rest now have moved before."""
        return {name: parameter.detach() for name, parameter in self.model.named_parameters()}


def attach(model: Any, settings: Lisa, context: TrainingContext) -> Tuned:
    """Train embeddings, head and final norm always, and `layers` of the layers, drawn anew every `interval` steps.

    Raises:
        UserError: the model has fewer layers, or no list of equal layers.
    """
    blocks = find_blocks(model)
    total = len(model.get_submodule(blocks))
    if settings.layers > total:
        raise UserError(
            f"{settings.layers} layers are to train at a time, but the model has {total}",
            "method.layers",
            f"give at most {total}",
        )
    model.requires_grad_(True)
    return LisaTuned(model, settings, context, blocks)
