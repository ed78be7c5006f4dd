"""The one subclass of transformers.Trainer: data order, randomness, checkpoints and the guard against NaN."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import SequentialSampler
from transformers import Trainer

from schemas.errors import TrainingFailed
from tasks.training import checkpoints


class ResumableTrainer(Trainer):
    """Trains the plan's sequences in their order; killed anywhere, it goes on to the same weights."""

    checkpoint_folder: Path
    _micro = (-1, 0)
    """(step, micro-batch in it) that comes next."""

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        """The plan is already in order: batch k is a pure function of (plan, k)."""
        dataset: Any = train_dataset if train_dataset is not None else self.train_dataset
        return SequentialSampler(dataset)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """Seed dropout from (seed, step, micro-batch), so that no random state has to survive a kill."""
        step = self.state.global_step
        micro = self._micro[1] if self._micro[0] == step else 0
        self._micro = (step, micro + 1)
        seed = np.random.SeedSequence([self.args.seed, step, micro]).generate_state(1, np.uint64)
        torch.manual_seed(int(seed[0]))
        loss = super().training_step(model, inputs, num_items_in_batch)
        if not torch.isfinite(loss):
            raise self._not_finite("loss")
        return loss

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
