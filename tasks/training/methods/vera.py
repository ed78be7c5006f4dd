"""VeRA: Vector-based Random Matrix Adaptation (Kopiczko et al., 2024, https://arxiv.org/abs/2310.11454)."""

from typing import Any

from schemas.spec.methods.peft import Vera
from tasks.training.methods.base import TrainingContext, Tuned
from tasks.training.methods.parts.peft_backed import PeftTuned, attach_peft, require_modules


def attach(model: Any, settings: Vera, context: TrainingContext) -> Tuned:
    """Train d (r,) and b (d_out,) of each layer: h = W x + diag(b) B diag(d) A x, A and B random, shared and frozen.

    b starts at zero, so training starts at the base model. A and B are drawn from the run's seed, and saved all the
    same: another version of torch may draw others.

    Raises:
        UserError: no module is named like one of settings.target_modules.
    """
    from peft import VeraConfig

    config = VeraConfig(
        r=settings.r,
        d_initial=settings.d_initial,
        vera_dropout=settings.dropout,
        target_modules=require_modules(model, settings.target_modules, context),
        projection_prng_key=context.seed,
        save_projection=True,
    )
    return PeftTuned(attach_peft(model, config, context))
