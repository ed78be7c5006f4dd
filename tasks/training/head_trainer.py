"""Training of heads: a micro-batch is cut into forward passes of documents of like length.

Its documents are padded, not packed: beside one of a thousand tokens, hundreds of short ones would take hundreds of times
the memory. The summed loss of the step, and so its gradient, is the same.
"""

from collections.abc import Iterator
from typing import Any

import torch

from tasks.training.trainer import ResumableTrainer


class HeadTrainer(ResumableTrainer):
    """The same training over padded documents, each forward pass at most as large as a micro-batch would be packed."""

    positions: int
    """Positions of a forward pass, padding included; a single longer document is one by itself."""

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """Forward and backward on one group of documents after another."""
        parts = list(split_by_length(inputs, self.positions))
        losses = [self._forward_backward(model, part, num_items_in_batch, len(parts)) for part in parts]
        return torch.stack(losses).sum()


def split_by_length(batch: dict[str, torch.Tensor], positions: int) -> Iterator[dict[str, torch.Tensor]]:
    """Cut a padded batch (B, T) into groups of rows, longest first, each with at most `positions` of them.

    Labels are (B,) or (B, T).
    """
    lengths = batch["attention_mask"].sum(dim=1)
    order = torch.argsort(lengths, descending=True, stable=True)
    at = 0
    while at < len(order):
        longest = int(lengths[order[at]])
        rows = order[at : at + max(1, positions // longest)]
        yield {
            name: tensor[rows, :longest] if tensor.dim() == 2 else tensor[rows]
            for name, tensor in batch.items()
        }
        at += len(rows)
