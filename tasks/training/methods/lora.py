"""LoRA: Low-Rank Adaptation (Hu et al., 2021, https://arxiv.org/abs/2106.09685)."""

from typing import Any

from schemas.errors import UserError
from schemas.methods import Lora


def apply(model: Any, settings: Lora) -> Any:
    """Train A (r, d_in) and B (d_out, r) beside each frozen W (d_out, d_in).

    h = W x + (alpha / r) B A x. B starts at zero, so training starts at the base model.

    Raises:
        UserError: no module is named like one of settings.target_modules.
    """
    import torch
    from peft import LoraConfig, TaskType, get_peft_model

    linear = {
        name.rsplit(".", 1)[-1]
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    if settings.target_modules != "all-linear":
        unknown = [name for name in settings.target_modules if name not in linear]
        if unknown:
            raise UserError(
                f"method.target_modules: the model has no linear layer named {', '.join(unknown)}",
                "method.target_modules",
                f"known: {', '.join(sorted(linear))}",
            )
    modules = (
        settings.target_modules if settings.target_modules == "all-linear" else list(settings.target_modules)
    )
    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=settings.r,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]  # PEFT only divides by r
        lora_dropout=settings.dropout,
        target_modules=modules,
    )
    return get_peft_model(model, config)
