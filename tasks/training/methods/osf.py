"""OSF: Sculpting Subspaces, constrained full fine-tuning (Nayak et al., 2025, https://arxiv.org/abs/2504.07097)."""

from typing import Any

from schemas.spec.methods.peft import Osf
from tasks.training.methods.base import TrainingContext, Tuned
from tasks.training.methods.parts.peft_backed import PeftTuned, attach_peft, linear_layers, require_modules


def attach(model: Any, settings: Osf, context: TrainingContext) -> Tuned:
    """Train U_low, S_low, V_low of W = U_high S_high V_high + U_low S_low V_low.

    Gradients of U_low and V_low are projected to be orthogonal to U_high and V_high. Training starts at the base model
    up to rounding. Every matrix keeps the same share; the paper's choice of shares by layer importance is not done.

    Raises:
        UserError: no module is named like one of settings.target_modules.
    """
    from peft import OSFConfig

    targets = require_modules(model, settings.target_modules, context)
    if isinstance(targets, str):
        targets = list(linear_layers(model, context))
    config = OSFConfig(target_modules=targets, effective_rank=settings.preserved_ratio)
    return PeftTuned(attach_peft(model, config, context))


def try_on(model: Any, settings: Osf, context: TrainingContext) -> None:
    """Refuse modules that are not there, without the singular values of all others."""
    require_modules(model, settings.target_modules, context)
