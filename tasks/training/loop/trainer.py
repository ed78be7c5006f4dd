"""The one subclass of transformers.Trainer: data order, randomness, checkpoints and the guard against NaN."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.utils.data import SequentialSampler
from transformers import Trainer

from schemas.errors import TrainingFailed
from tasks.data.labels.labels import IGNORED
from tasks.training.batches.by_length import split_packed
from tasks.training.loop import checkpoints
from tasks.training.loop.head_losses import own_positions
from tasks.training.methods.base import Tuned
from tasks.training.remedies.applied import Applied
from tasks.training.remedies.base import Outputs

WEIGHTS = "trained.safetensors"


class ResumableTrainer(Trainer):
    """Trains the plan's sequences in their order; killed anywhere, it goes on to the same weights."""

    checkpoint_folder: Path
    tuned: Tuned
    remedies: Applied
    positions: int
    """Positions of a forward pass, padding included; a single longer document is one by itself."""
    schedule: Callable[[int], float] | None = None
    """Step -> factor of the peak learning rate, if the schedule is not transformers' own."""
    _laid_aside: tuple[Any, ...] = ()
    """Micro-batches of the step that wait for its last one."""
    _micro = (-1, 0)
    """(step, forward pass in it) that comes next."""
    _shares = 1
    """Forward passes that share the penalty of one optimizer step."""

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        """The plan is already in order: batch k is a pure function of (plan, k)."""
        dataset: Any = train_dataset if train_dataset is not None else self.train_dataset
        return SequentialSampler(dataset)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """Forward and backward on a micro-batch; on a CPU, on the whole step once its last micro-batch is there."""
        packed = (
            "position_ids" in inputs and self.model_accepts_loss_kwargs
        )  # else a mean of means would come out
        if self.args.device.type != "cpu" or not packed:
            return self._forward_backward(model, inputs, num_items_in_batch)
        self._laid_aside = (*self._laid_aside, inputs)
        if not self.accelerator.gradient_state.sync_gradients:
            return torch.zeros(())
        step, self._laid_aside = self._laid_aside, ()
        parts = list(split_packed(step, self.positions))
        return self._in_turn(model, parts, num_items_in_batch, shares=len(parts))

    def _in_turn(self, model: Any, parts: list[Any], num_items: Any, shares: int) -> torch.Tensor:
        """Forward and backward on what was one batch; the summed loss."""
        losses = [self._forward_backward(model, part, num_items, shares) for part in parts]
        return torch.stack(losses).sum()

    def _forward_backward(
        self, model: Any, inputs: Any, num_items: Any, shares: int | None = None
    ) -> torch.Tensor:
        """Seed dropout from (seed, step, micro-batch), so that no random state has to survive a kill."""
        step = self.state.global_step
        micro = self._micro[1] if self._micro[0] == step else 0
        self._micro = (step, micro + 1)
        if micro == 0:
            for parameter in self.remedies.own_parameters():
                parameter.grad = None  # transformers clears those of the model alone
        seed = np.random.SeedSequence([self.args.seed, step, micro]).generate_state(1, np.uint64)
        _seed_dropout(int(seed[0]), self.args.device.type)
        self._shares = shares or self.current_gradient_accumulation_steps
        loss = super().training_step(model, inputs, num_items)
        if not torch.isfinite(loss):
            raise self._not_finite("loss")
        return loss

    def compute_loss(self, model: Any, inputs: Any, *arguments: Any, **settings: Any) -> Any:
        """The loss of the label tokens, what remedies make of it, and the penalties once per optimizer step."""
        places = inputs.get("places")
        if places is None:
            loss: Any = super().compute_loss(model, inputs, *arguments, **settings)
            self._show_loss(model, loss, settings.get("num_items_in_batch"))
        else:
            loss = self._remedied_loss(model, inputs, places, settings.get("num_items_in_batch"))
        for penalty in (self.tuned.penalty(), self.remedies.penalty()) if model.training else ():
            loss = loss if penalty is None else loss + penalty / self._shares
        return loss

    def _show_loss(self, model: Any, loss: Any, num_items: Any) -> None:
        """Let remedies see the text's own loss; a mean of one micro-batch counts as its share of the step."""
        if not model.training:
            return
        summed = num_items is not None and (self.model_accepts_loss_kwargs or self.compute_loss_func)
        share = loss if summed else loss / self.current_gradient_accumulation_steps
        self.remedies.see_loss(share.detach())

    def _remedied_loss(self, model: Any, inputs: Any, places: torch.Tensor, num_items: Any) -> torch.Tensor:
        """The loss of a forward pass whose outputs remedies look at."""
        own = {name: tensor for name, tensor in inputs.items() if name != "places"}
        labels = own["labels"]
        loss, outputs = super().compute_loss(model, own, return_outputs=True, num_items_in_batch=num_items)
        self._show_loss(model, loss, num_items)
        logits = own_positions(outputs.logits, labels)
        if num_items is None:
            num_items = (labels[:, 1:] != IGNORED).sum()
        return self.remedies.loss(loss, Outputs(logits, labels, places, num_items, own["input_ids"]))

    def create_optimizer(self, model: Any = None) -> Any:
        """Give a method's parameters their own learning rates, where it has such; add what remedies train."""
        if self.optimizer is not None:
            return self.optimizer
        groups = self.tuned.parameter_groups(self.args.learning_rate)
        if groups is None:
            super().create_optimizer(model) if model is not None else super().create_optimizer()
        else:
            kind, settings = self.get_optimizer_cls_and_kwargs(self.args)
            self.optimizer = kind(
                [{"weight_decay": self.args.weight_decay, **group} for group in groups], **settings
            )
        own = self.remedies.own_parameters()
        if own:
            optimizer: Any = self.optimizer
            optimizer.add_param_group({"params": own, "weight_decay": self.args.weight_decay})
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Our own schedule, where the specification names one."""
        if self.schedule is None or self.lr_scheduler is not None:
            return super().create_scheduler(num_training_steps, optimizer)
        given: Any = optimizer or self.optimizer
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(given, self.schedule)
        return self.lr_scheduler

    def _clip_grad_norm(self, model: Any) -> Any:
        """Clip, and stop before a step whose gradient is not finite could reach the weights."""
        norm = super()._clip_grad_norm(model)
        if norm is not None and not torch.isfinite(torch.as_tensor(norm)):
            raise self._not_finite("gradient")
        return norm

    def _not_finite(self, what: str) -> TrainingFailed:
        return TrainingFailed(
            f"the {what} became NaN or infinite; the weights were not touched by it",
            f"training step {self.state.global_step + 1}",
            "lower training.learning_rate or raise training.warmup_ratio; the last checkpoint is kept",
        )

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Write what trains and nothing else: the frozen base is where it was."""
        folder = Path(str(output_dir or self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        save_file(
            {
                name: tensor.contiguous()
                for name, tensor in {**self.tuned.state(), **self.remedies.state()}.items()
            },
            folder / WEIGHTS,
        )

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Take up what trains; the rest is as it was loaded."""
        tensors = load_file(Path(resume_from_checkpoint) / WEIGHTS)
        self.tuned.load_state(self.remedies.load_state(tensors))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write beside, then rename: transformers writes straight into the folder that a resume would pick up."""
        temporary = self.checkpoint_folder / ".writing"
        shutil.rmtree(temporary, ignore_errors=True)
        wanted, self.args.output_dir = self.args.output_dir, str(temporary)
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self.args.output_dir = wanted
        written = temporary / f"checkpoint-{self.state.global_step}"
        checkpoints.publish(written, self.checkpoint_folder, self.state.global_step)


def _seed_dropout(seed: int, device: str) -> None:
    """Of the device in use alone: torch.manual_seed asks after every backend, which takes longer than a small layer."""
    torch.default_generator.manual_seed(seed)
    if device == "cuda":
        torch.cuda.manual_seed(seed)
