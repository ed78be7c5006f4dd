"""LoRA: Low-Rank Adaptation (Hu et al., 2021, https://arxiv.org/abs/2106.09685)."""

from typing import Any

from schemas.methods import Lora
from tasks.training.methods.base import TrainingContext, Tuned
from tasks.training.methods.peft_backed import attach_peft, require_modules


def attach(model: Any, settings: Lora, context: TrainingContext) -> Tuned:
    """Train A (r, d_in) and B (d_out, r) beside each frozen W (d_out, d_in).

    h = W x + (alpha / r) B A x. B starts at zero, so training starts at the base model.

    Raises:
        UserError: no module is named like one of settings.target_modules.
    """
    from peft import LoraConfig, TaskType

    config = LoraConfig(
        task_type=None if context.head else TaskType.CAUSAL_LM,
        modules_to_save=list(context.head) or None,
        r=settings.r,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]  # PEFT only divides by r
        lora_dropout=settings.dropout,
        target_modules=require_modules(model, settings.target_modules),
    )
    return attach_peft(model, config)
