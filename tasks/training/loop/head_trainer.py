"""Training of heads: over padded documents, a micro-batch cut into forward passes of documents of like length."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from tasks.data.labels.model_head import TaskOutputs
from tasks.training.batches.by_length import OVERHEAD, split_padded
from tasks.training.loop.trainer import ResumableTrainer


class HeadTrainer(ResumableTrainer):
    """The same training, each forward pass at most as large as a micro-batch would be packed.

    Where tasks have modules of their own, a pass holds documents of one task.
    """

    tasks: tuple[TaskOutputs, ...] = ()
    """Those with modules of their own."""

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """Forward and backward on one group of documents after another."""
        few = (
            self.args.device.type != "cpu"
        )  # a GPU takes as few passes as there can be: it waits for their launch
        overhead = self.positions if few else OVERHEAD
        parts = [
            part
            for group in split_by_task(inputs, self.tasks)
            for part in split_padded(group, self.positions, overhead)
        ]
        shares = len(parts) * self.current_gradient_accumulation_steps
        return self._in_turn(model, parts, num_items_in_batch, shares)

    def _forward_backward(
        self, model: Any, inputs: Any, num_items: Any, shares: int | None = None
    ) -> torch.Tensor:
        """With the modules of the documents' own task."""
        for task in self.tasks:
            if bool(is_of(task, inputs["labels"]).any()):
                self.tuned.use_task(task.name)
        return super()._forward_backward(model, inputs, num_items, shares)


def is_of(task: TaskOutputs, labels: torch.Tensor) -> torch.Tensor:
    """Which documents are labelled for a task, (B,): their labels are numbers of its outputs."""
    highest = labels if labels.dim() == 1 else labels.amax(dim=1)
    return (highest >= task.start) & (highest < task.stop)


def split_by_task(
    batch: dict[str, torch.Tensor], tasks: Sequence[TaskOutputs]
) -> Iterator[dict[str, torch.Tensor]]:
    """The documents of a batch by task; those without any label teach nothing and are left out."""
    owned = [is_of(task, batch["labels"]) for task in tasks]
    if not any(bool(rows.any()) for rows in owned):
        yield batch
    for rows in owned:
        if bool(rows.any()):
            yield {name: tensor[rows] for name, tensor in batch.items()}
