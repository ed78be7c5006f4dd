"""Linear probing: Understanding intermediate layers using linear classifier probes (Alain and Bengio, 2016, https://arxiv.org/abs/1610.01644)."""

from typing import Any

from schemas.errors import UserError
from schemas.spec.methods.subset import HeadOnly
from tasks.training.methods.base import TrainingContext, Tuned
from tasks.training.methods.parts.own_weights import train_only


def attach(model: Any, settings: HeadOnly, context: TrainingContext) -> Tuned:
    """Let the task's head train on the frozen base.

    Raises:
        UserError: the model has no head of a task; a language model's own output layer is chosen by name instead.
    """
    if not context.head:
        output = model.get_output_embeddings()
        name = next((name for name, module in model.named_modules() if module is output), "lm_head")
        raise UserError(
            "a language model has no new head to train",
            "method.kind",
            f"for its output layer: method={{kind: selective, choose: patterns, patterns: ['{name}.*']}},"
            " if it does not share its weights with the embeddings",
        )
    return train_only(model, set(), context)
