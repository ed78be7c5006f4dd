"""Training of heads: over padded documents, a micro-batch cut into forward passes of documents of like length."""

from typing import Any

import torch

from tasks.training.by_length import OVERHEAD, split_padded
from tasks.training.trainer import ResumableTrainer


class HeadTrainer(ResumableTrainer):
    """The same training, each forward pass at most as large as a micro-batch would be packed."""

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """Forward and backward on one group of documents after another."""
        few = (
            self.args.device.type != "cpu"
        )  # a GPU takes as few passes as there can be: it waits for their launch
        parts = list(split_padded(inputs, self.positions, self.positions if few else OVERHEAD))
        shares = len(parts) * self.current_gradient_accumulation_steps
        return self._in_turn(model, parts, num_items_in_batch, shares)
