"""(IA)^3: Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper (Liu et al., 2022, https://arxiv.org/abs/2205.05638)."""

from typing import Any

from schemas.errors import UserError
from schemas.spec.methods.peft import Ia3
from tasks.training.methods.base import TrainingContext, Tuned
from tasks.training.methods.parts.peft_backed import PeftTuned, attach_peft, linear_layers, require_modules

KEYS_AND_VALUES = {"k_proj", "v_proj", "key", "value", "k_lin", "v_lin", "k", "v", "key_proj", "value_proj"}
"""What transformers' models call the projections of keys and values, where they are matrices of their own."""


def attach(model: Any, settings: Ia3, context: TrainingContext) -> Tuned:
    """Train a vector l_k, l_v (d_out,) on each key and value, and l_ff (d_in,) on the input of each second matrix.

    All start at one, so training starts at the base model.

    Raises:
        UserError: the modules that are named are not there, or which they are cannot be told from the model.
    """
    from peft import IA3Config

    feedforward = _feedforward(model, settings, context)
    outputs = _keys_and_values(model, settings, context)
    twice = sorted(set(outputs) & set(feedforward))
    if twice:
        raise UserError(
            f"{', '.join(twice)} cannot be rescaled at both ends",
            "method.feedforward_modules",
            "name each module in only one of target_modules and feedforward_modules",
        )
    config = IA3Config(target_modules=[*outputs, *feedforward], feedforward_modules=feedforward)
    return PeftTuned(attach_peft(model, config, context))


def _keys_and_values(model: Any, settings: Ia3, context: TrainingContext) -> list[str]:
    if settings.target_modules is not None:
        return list(require_modules(model, settings.target_modules, context))
    found = [name for name in linear_layers(model, context) if name.rsplit(".", 1)[-1] in KEYS_AND_VALUES]
    return found or _cannot_tell(model, context, "target_modules", "projections of keys and values")


def _feedforward(model: Any, settings: Ia3, context: TrainingContext) -> list[str]:
    """By default the linear layers that bring the wide inner activations back to the hidden size."""
    if settings.feedforward_modules is not None:
        return list(require_modules(model, settings.feedforward_modules, context, "feedforward_modules"))
    hidden = model.config.get_text_config().hidden_size
    found = []
    for name, module in linear_layers(model, context).items():
        outputs, inputs = module.weight.shape
        if type(module).__name__ == "Conv1D":
            outputs, inputs = inputs, outputs
        attention = any("attn" in part or "attention" in part for part in name.split(".")[:-1])
        if outputs == hidden and inputs > outputs and not attention:
            found.append(name)
    return found or _cannot_tell(
        model, context, "feedforward_modules", "second matrix of the feed-forward layers"
    )


def _cannot_tell(model: Any, context: TrainingContext, key: str, what: str) -> list[str]:
    known = sorted({name.rsplit(".", 1)[-1] for name in linear_layers(model, context)})
    raise UserError(
        f"which modules are the {what} cannot be told from {type(model).__name__}",
        f"method.{key}",
        f"name them; the model's linear layers: {', '.join(known)}",
    )
