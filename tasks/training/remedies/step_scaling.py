"""Loss-aware step scaling: surprising batches move the weights less.

    factor_k = min(1, (target / loss_k) ** power)

loss_k is the mean loss of step k's batch in nats per label token, all its micro-batches together, before the step and without
penalties and weights of other remedies; target is what the base finds usual: its mean loss on general text, or a given number.
The definition is our own. FLOW (Sanyal et al., 2025, https://arxiv.org/abs/2502.02797) has the idea for documents: what the
base finds hard pulls less.

The factor multiplies the learning rates of this one step, not the loss: AdamW does not feel a loss that is always scaled alike
(Kingma and Ba, 2015, https://arxiv.org/abs/1412.6980, section 2.1). So what AdamW multiplies by the learning rate, weight decay
and `anchor: decay_to_base`, is smaller in that step too.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.spec.remedies import StepScaling
from tasks.data.plan.plan import load_general
from tasks.storage.steps import Step
from tasks.training.remedies.base import Remedy, RemedyContext
from tasks.training.remedies.parts.general import take_tokens
from tasks.training.remedies.parts.measure import Documents, mean_loss, measure_base

if TYPE_CHECKING:
    import torch

    from tasks.training.methods.base import Tensors, Tuned


class ScaledSteps(Remedy):
    """The learning rates of a step are multiplied by its factor, and put back right after it."""

    def __init__(self, target: float, power: float):
        """`target` in nats per label token."""
        self.target, self.power = target, power
        self.loss_of_step: float | torch.Tensor = 0.0
        self.steps, self.scaled, self.factors = 0, 0, 0.0
        self.rates: list[Any] = []

    def see_loss(self, share: "torch.Tensor") -> None:
        """Add up the forward passes of a step."""
        self.loss_of_step = self.loss_of_step + share.double()

    def before(self, groups: list[dict[str, Any]]) -> None:
        """Scale the learning rates of the step that comes now."""
        loss = float(self.loss_of_step)
        factor = (self.target / loss) ** self.power if loss > self.target else 1.0
        self.steps += 1
        self.scaled += factor < 1
        self.factors += factor
        self.loss_of_step = 0.0
        self.rates = [group["lr"] for group in groups]
        for group in groups:
            group["lr"] = group["lr"] * factor

    def after(self, groups: list[dict[str, Any]]) -> None:
        """Put back what the schedule had set."""
        for group, rate in zip(groups, self.rates, strict=True):
            group["lr"] = rate

    def callbacks(self) -> list[Any]:
        """Around each optimizer step."""
        from transformers import TrainerCallback

        remedy = self

        class Scale(TrainerCallback):
            def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **given: Any) -> None:
                remedy.before(given["optimizer"].param_groups)

            def on_optimizer_step(self, args: Any, state: Any, control: Any, **given: Any) -> None:
                remedy.after(given["optimizer"].param_groups)

        return [Scale()]

    def facts(self) -> dict[str, Any]:
        """The target, the mean factor, and the share of steps that were made smaller."""
        steps = max(self.steps, 1)
        return {
            "target_nats": self.target,
            "mean_factor": self.factors / steps,
            "share_of_steps_scaled": self.scaled / steps,
        }

    def state(self) -> "Tensors":
        """What the facts are made of: the factors themselves depend on no earlier step."""
        import torch

        return {"told": torch.tensor([self.steps, self.scaled, self.factors], dtype=torch.float64)}

    def load_state(self, tensors: "Tensors") -> None:
        """Go on counting."""
        steps, scaled, self.factors = tensors["told"].tolist()
        self.steps, self.scaled = int(steps), int(scaled)


def prepare(settings: StepScaling, context: RemedyContext) -> Step | None:
    """The base's mean loss on general text, unless a target is given."""
    if settings.target is not None:
        return None
    general = take_tokens(load_general(context.inputs.plan), settings.general_tokens)

    def work(_: Path, model: Any, documents: Documents) -> dict[str, Any]:
        return {"nats": mean_loss(model, documents)}

    return measure_base(context, "general-loss", __name__, general, work)


def attach(tuned: "Tuned", settings: StepScaling, context: RemedyContext, prepared: Step | None) -> Remedy:
    """Hold each step's loss against the given target, or what was measured."""
    if settings.target is not None:
        return ScaledSteps(settings.target, settings.power)
    assert prepared is not None, "without a target, prepare has measured one"
    return ScaledSteps(float(prepared.facts["nats"]), settings.power)
