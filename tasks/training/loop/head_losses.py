"""The loss of a head: of one task, or of several, each with its share."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.errors import UserError
from tasks.data.labels.model_head import TaskOutputs
from tasks.training.models.heads import HeadInputs


def loss_of(head: HeadInputs, dataset: Any) -> Callable[..., Any]:
    """What a training with this head minimises; `dataset` are the plan's labelled documents."""
    if not head.head.tasks:
        return head_loss
    return task_loss(head.head.tasks, head.weights, dataset.label_counts(len(head.head.names)))


def task_loss(
    tasks: Sequence[TaskOutputs], weights: Mapping[str, float], counts: npt.NDArray[np.int64]
) -> Callable[..., Any]:
    """The loss of several tasks, each with a softmax over its own outputs: see `task_factors` for their shares.

    `counts` are the labels that the whole training shows each output, (outputs,). As with one task the loss is summed
    over the labels of the optimizer step, so it does not depend on which of them share a forward pass.
    """
    from torch.nn.functional import cross_entropy

    factors = task_factors(tasks, weights, counts)

    def loss(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
        logits = own_positions(outputs.logits, labels).float().flatten(0, -2)
        flat = labels.flatten()
        total = logits.sum() * 0.0  # a forward pass may hold no label at all
        for task in tasks:
            own = (flat >= task.start) & (flat < task.stop)
            summed = cross_entropy(
                logits[own, task.start : task.stop], flat[own] - task.start, reduction="sum"
            )
            total = total + factors[task.name] * summed
        return total / ((flat != -100).sum() if num_items_in_batch is None else num_items_in_batch)

    return loss


def task_factors(
    tasks: Sequence[TaskOutputs], weights: Mapping[str, float], counts: npt.NDArray[np.int64]
) -> dict[str, float]:
    """What each label of a task counts: share of the loss w_t / sum(w) over share of the labels n_t / sum(n).

    So a task has its share over the whole training, whether it has ten labels or a million, and every label of a task
    counts the same, whatever else is in its step.

    Raises:
        UserError: a task has no label in the plan.
    """
    numbers = {task.name: int(counts[task.start : task.stop].sum()) for task in tasks}
    empty = [name for name, number in numbers.items() if number == 0]
    if empty:
        raise UserError(
            f"the training shows no label of task {', '.join(empty)}",
            "training",
            "train longer (training.epochs, steps or tokens), or raise training.documents",
        )
    whole, labels = sum(weights[task.name] for task in tasks), sum(numbers.values())
    return {name: weights[name] / whole * labels / number for name, number in numbers.items()}


def own_positions(logits: Any, labels: Any) -> Any:
    """The logits of the text's own ids, the last: methods that prepend virtual tokens give logits for them too."""
    return logits[:, -labels.shape[1] :] if logits.dim() == 3 else logits


def head_loss(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
    """Cross entropy in nats, summed over the labels of a micro-batch and divided by those of the whole step.

    transformers' own loss is a mean over the micro-batch, which gives short ones more weight.
    """
    from torch.nn.functional import cross_entropy

    logits = own_positions(outputs.logits, labels).float().flatten(0, -2)
    summed = cross_entropy(logits, labels.flatten(), ignore_index=-100, reduction="sum")
    count = (labels != -100).sum() if num_items_in_batch is None else num_items_in_batch
    return summed / count
