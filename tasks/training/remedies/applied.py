"""The remedies of one training together: prepared, attached, and called where the trainer and the checkpoints are."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.spec.run import RunSpec
from tasks.storage.steps import Step
from tasks.training.remedies.base import Outputs, Remedy, RemedyContext
from tasks.training.remedies.registry import REMEDIES

if TYPE_CHECKING:
    import torch

    from tasks.training.methods.base import Tensors, Tuned


def files_read(spec: RunSpec, base: Path) -> Mapping[str, str]:
    """Further files that the training is named by: name -> sha256."""
    read: dict[str, str] = {}
    for settings in spec.remedies:
        reads = REMEDIES[settings.kind].reads
        read |= reads(settings, base) if reads else {}
    return read


def prepare_remedies(context: RemedyContext) -> list[Step | None]:
    """Do what must be done before the method is on the base; finished steps are no-ops."""
    prepared = []
    for settings in context.spec.remedies:
        prepare = REMEDIES[settings.kind].prepare
        prepared.append(prepare(settings, context) if prepare else None)
    return prepared


def attach_remedies(tuned: "Tuned", context: RemedyContext, prepared: Sequence[Step | None]) -> "Applied":
    """Put the remedies to work on a method that has not made a step yet."""
    remedies = context.spec.remedies
    return Applied(
        {
            settings.kind: REMEDIES[settings.kind].attach(tuned, settings, context, step)
            for settings, step in zip(remedies, prepared, strict=True)
        },
        any(settings.reads_outputs for settings in remedies),
    )


class Applied:
    """Remedies at work, in the order of the specification."""

    def __init__(self, remedies: Mapping[str, Remedy], reads_outputs: bool = False):
        self.remedies = remedies
        self.reads_outputs = reads_outputs
        """Whether batches must carry `places`."""

    def penalty(self) -> "torch.Tensor | None":
        """The penalties of one optimizer step, added up."""
        return _sum([remedy.penalty() for remedy in self.remedies.values()])

    def loss(self, loss: "torch.Tensor", outputs: Outputs) -> "torch.Tensor":
        """The loss of a forward pass: label tokens weighed, and what remedies add."""
        import torch

        factors = [remedy.weights(outputs.places) for remedy in self.remedies.values()]
        given = [factor for factor in factors if factor is not None]
        if given:
            loss = weighted_loss(outputs, torch.stack(given).prod(dim=0))
        added = _sum([remedy.loss(outputs) for remedy in self.remedies.values()])
        return loss if added is None else loss + added

    def own_parameters(self) -> "list[torch.nn.Parameter]":
        """What trains beside the model."""
        return [parameter for remedy in self.remedies.values() for parameter in remedy.own_parameters()]

    def see_loss(self, share: "torch.Tensor") -> None:
        """Show the loss of a forward pass to those that look at it."""
        for remedy in self.remedies.values():
            remedy.see_loss(share)

    def callbacks(self) -> list[Any]:
        return [callback for remedy in self.remedies.values() for callback in remedy.callbacks()]

    def finish(self) -> None:
        for remedy in self.remedies.values():
            remedy.finish()

    def save(self, folder: Path) -> None:
        for remedy in self.remedies.values():
            remedy.save(folder)

    def facts(self) -> dict[str, dict[str, Any]]:
        """kind -> what it can tell of the finished training."""
        return {kind: remedy.facts() for kind, remedy in self.remedies.items()}

    def state(self) -> "Tensors":
        """What a checkpoint keeps of all of them."""
        return {
            f"remedy:{kind}:{name}": tensor
            for kind, remedy in self.remedies.items()
            for name, tensor in remedy.state().items()
        }

    def load_state(self, tensors: "Tensors") -> "Tensors":
        """Take up what is the remedies' own; return the rest."""
        for kind, remedy in self.remedies.items():
            prefix = f"remedy:{kind}:"
            own = {
                name.removeprefix(prefix): tensor
                for name, tensor in tensors.items()
                if name.startswith(prefix)
            }
            if own:
                remedy.load_state(own)
        return {name: tensor for name, tensor in tensors.items() if not name.startswith("remedy:")}


def weighted_loss(outputs: Outputs, factors: "torch.Tensor") -> "torch.Tensor":
    """Cross entropy in nats of each label token times its factor (B, T), summed and divided by the step's label tokens."""
    from torch.nn.functional import cross_entropy

    logits, labels = outputs.logits[:, :-1], outputs.labels[:, 1:]
    losses = cross_entropy(
        logits.float().flatten(0, 1), labels.flatten(), ignore_index=-100, reduction="none"
    )
    return (losses * factors[:, 1:].flatten()).sum() / outputs.num_items


def _sum(values: "Sequence[torch.Tensor | None]") -> "torch.Tensor | None":
    total = None
    for value in values:
        if value is not None:
            total = value if total is None else total + value
    return total
