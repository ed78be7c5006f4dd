"""EMA: what is deployed is the moving average of the weights (Polyak and Juditsky, 1992; as a defence against forgetting:
Tarvainen and Valpola, 2017, https://arxiv.org/abs/1703.01780)."""

from typing import TYPE_CHECKING, Any

from schemas.spec.remedies import Ema
from tasks.storage.steps import Step
from tasks.training.methods.parts.own_weights import WholeModel
from tasks.training.remedies.base import Remedy, RemedyContext

if TYPE_CHECKING:
    from tasks.training.methods.base import Tensors, Tuned


class EmaAtWork(Remedy):
    """average <- decay x average + (1 - decay) x weights, after every step; it starts at the base."""

    def __init__(self, tuned: "Tuned", settings: Ema):
        self.decay = settings.decay
        self.steps = 0
        self.parameters = {
            name: parameter
            for name, parameter in tuned.model.named_parameters()
            if parameter.requires_grad or isinstance(tuned, WholeModel)
        }
        self.averages = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}

    def update(self) -> None:
        """One step of the average."""
        for name, parameter in self.parameters.items():
            average = self.averages[name] = self.averages[name].to(parameter.device)
            average.lerp_(parameter.detach(), 1 - self.decay)

    def callbacks(self) -> list[Any]:
        """After each optimizer step."""
        from transformers import TrainerCallback

        remedy = self

        class Average(TrainerCallback):
            def on_optimizer_step(self, args: Any, state: Any, control: Any, **given: Any) -> None:
                remedy.update()
                remedy.steps = state.global_step + 1

        return [Average()]

    def finish(self) -> None:
        """Put the averages in the weights' place."""
        import torch

        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(self.averages[name])

    def facts(self) -> dict[str, Any]:
        """How much of the average is still the start: decay to the power of the steps."""
        return {"share_of_the_base": self.decay**self.steps}

    def state(self) -> "Tensors":
        """The averages."""
        return dict(self.averages)

    def load_state(self, tensors: "Tensors") -> None:
        """Take up the averages."""
        self.averages = dict(tensors)


def attach(tuned: "Tuned", settings: Ema, context: RemedyContext, prepared: Step | None) -> Remedy:
    """Average everything that trains."""
    return EmaAtWork(tuned, settings)
