"""Domain-Adversarial Training of Neural Networks (Ganin et al., 2016, https://arxiv.org/abs/1505.07818).

A discriminator learns to tell domain rows from replay rows by the features that feed the task's output layer, and the
body learns to give it nothing to go by: the features it makes of new rows stay like those of old ones.

Deviations: replay rows have labels too, so the task is learnt on both. Features are those of the model's own head, and the
discriminator has the learning rate of the training.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from schemas.errors import UserError
from schemas.spec.remedies import DomainAdversarial
from tasks.data.plan.mix import offsets_of
from tasks.data.plan.plan import load_plan
from tasks.storage.steps import Step
from tasks.training.remedies.base import Outputs, Remedy, RemedyContext
from tasks.training.remedies.parts.plan_places import is_replay

if TYPE_CHECKING:
    import torch

    from tasks.training.methods.base import Tensors, Tuned

STREAM = 2**22  # of random numbers: the weights that the discriminator starts with
MEASURED = 256
"""Documents of each role, the last of the plan, on which the discriminator is measured in the end."""


class DomainAdversarialAtWork(Remedy):
    """The discriminator and the hook on the features; neither is part of the model."""

    def __init__(self, tuned: "Tuned", settings: DomainAdversarial, context: RemedyContext):
        from tasks.training.device import find_device
        from tasks.training.remedies.parts.discriminator import Discriminator, Features

        pieces, _ = load_plan(context.inputs.plan)
        self.settings, self.context, self.model = settings, context, tuned.model
        self.offsets, self.replay = offsets_of(pieces), is_replay(context.spec, pieces)
        rows = np.bincount(self.replay, minlength=2)
        _require_both(rows)
        self.factors = (len(pieces) / rows).astype(np.float32)
        """Of the loss of a domain row and of a replay row: each role counts as a mean of its own, as in equation 9."""
        self.features = Features(tuned.model)
        _require_body(tuned.model, self.features.layers)
        seed = int(np.random.SeedSequence([context.spec.training.seed, STREAM]).generate_state(1)[0])
        self.discriminator = Discriminator(self.features.size, settings.hidden_size, seed)
        self.discriminator.to(find_device().name)
        self.progress = 0.0
        self.told: dict[str, Any] = {}

    def loss(self, outputs: Outputs) -> "torch.Tensor":
        """Cross entropy of the discriminator in nats; its gradient reaches the body turned round."""
        import torch
        from torch.nn.functional import binary_cross_entropy_with_logits

        from tasks.training.remedies.parts.discriminator import reverse, scale_at

        assert outputs.input_ids is not None
        features = self.features.take(outputs.input_ids, outputs.logits).float()
        scale = scale_at(self.progress, self.settings.strength, self.settings.gamma)
        replay = self._is_replay(outputs.places)
        losses = binary_cross_entropy_with_logits(
            self.discriminator(reverse(features, scale)),
            torch.from_numpy(replay.astype(np.float32)).to(features.device),
            reduction="none",
        )
        factors = torch.from_numpy(self.factors[replay.astype(np.int64)]).to(features.device)
        return (losses * factors).sum() / outputs.num_items

    def _is_replay(self, places: "torch.Tensor") -> npt.NDArray[np.bool_]:
        """Whether each document is replay, by the place of its first id in the plan."""
        number = np.searchsorted(self.offsets, places.cpu().numpy(), side="right") - 1
        found: npt.NDArray[np.bool_] = self.replay[number]
        return found

    def own_parameters(self) -> "list[torch.nn.Parameter]":
        """The discriminator's."""
        return list(self.discriminator.parameters())

    def callbacks(self) -> list[Any]:
        """The share of training that is done, before each step."""
        from transformers import TrainerCallback

        remedy = self

        class Progress(TrainerCallback):
            def on_step_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
                remedy.progress = state.global_step / state.max_steps

        return [Progress()]

    def finish(self) -> None:
        """Measure what the discriminator still sees, and take it off."""
        self.told = {"discriminator_accuracy": self._accuracy()}
        self.features.remove()

    def _accuracy(self) -> float:
        """Share of rows whose role it tells, each role by itself, then the mean: 0.5 is chance."""
        import torch

        from tasks.training.batches.by_length import split_padded
        from tasks.training.batches.micro_batch import micro_batch_tokens
        from tasks.training.device import find_device
        from tasks.training.inputs import open_dataset

        numbers = [np.flatnonzero(self.replay == role)[-MEASURED:] for role in (False, True)]
        starts = self.offsets[np.concatenate(numbers)]
        dataset, collate = open_dataset(self.context.spec, self.context.inputs, numbered=True)
        sequences = np.unique(np.searchsorted(dataset.sequences, np.concatenate(numbers), side="right") - 1)
        device = find_device()
        self.model.to(device.name).eval()
        right: dict[bool, list[bool]] = {True: [], False: []}
        for sequence in sequences.tolist():
            whole = collate([dataset[sequence]])
            chosen = torch.from_numpy(np.isin(whole["places"].numpy(), starts))
            measured = {name: tensor[chosen] for name, tensor in whole.items()}
            for batch in split_padded(measured, micro_batch_tokens(self.context.spec)):
                given = {name: batch[name].to(device.name) for name in ("input_ids", "attention_mask")}
                with torch.inference_mode():
                    with torch.autocast(device.name, torch.bfloat16, enabled=device.autocast):
                        logits = self.model(**given).logits
                    says = self.discriminator(self.features.take(given["input_ids"], logits).float()) > 0
                for is_old, said in zip(
                    self._is_replay(batch["places"]).tolist(), says.tolist(), strict=True
                ):
                    right[is_old].append(is_old == said)
        return float(np.mean([np.mean(answers) for answers in right.values()]))

    def facts(self) -> dict[str, Any]:
        """What the discriminator tells in the end."""
        return self.told

    def state(self) -> "Tensors":
        """Its weights; the optimizer keeps its own state of them."""
        return {name: tensor.detach() for name, tensor in self.discriminator.state_dict().items()}

    def load_state(self, tensors: "Tensors") -> None:
        """Take up the weights."""
        self.discriminator.load_state_dict(tensors)


def _require_both(rows: npt.NDArray[np.int64]) -> None:
    """Refuse a training so short that rows of one role are missing.

    Raises:
        UserError: there is nothing to tell apart.
    """
    if not rows.all():
        raise UserError(
            f"the plan holds {rows[0]:,} domain rows and {rows[1]:,} replay rows: there is nothing to tell apart",
            "training",
            "train longer (training.epochs, steps or tokens), or raise mixture.replay_ratio",
        )


def _require_body(model: Any, output_layers: list[Any]) -> None:
    """Refuse a method that trains the output layer alone.

    Raises:
        UserError: nothing that trains lies below the features.
    """
    own = {id(parameter) for layer in output_layers for parameter in layer.parameters()}
    if all(id(parameter) in own for parameter in model.parameters() if parameter.requires_grad):
        raise UserError(
            "domain_adversarial changes what lies below the task's output layer, and this method trains nothing there",
            "method",
            "train a part of the body too (method full, lora or another; selective with layers or patterns of the body)",
        )


def attach(
    tuned: "Tuned", settings: DomainAdversarial, context: RemedyContext, prepared: Step | None
) -> Remedy:
    """Put the discriminator on the features."""
    return DomainAdversarialAtWork(tuned, settings, context)
