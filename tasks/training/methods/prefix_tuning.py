"""Prefix tuning (Li and Liang, 2021, https://arxiv.org/abs/2101.00190) and P-tuning v2 (Liu et al., 2022, https://arxiv.org/abs/2110.07602)."""

from typing import Any

from schemas.spec.methods.peft import PrefixTuning, PTuningV2
from tasks.training.methods.base import TrainingContext, Tuned
from tasks.training.methods.parts.virtual_tokens import attach_prompt


def attach(model: Any, settings: PrefixTuning | PTuningV2, context: TrainingContext) -> Tuned:
    """Train keys and values (virtual_tokens, layers, 2, heads, d_head) that every layer attends to.

    Prefix tuning makes them with an MLP from embeddings (virtual_tokens, d); only its output is kept in the end.

    Raises:
        UserError: the model's context has no room for them, or the model takes no notice of them.
    """
    from peft import PrefixTuningConfig

    config = PrefixTuningConfig(num_virtual_tokens=settings.virtual_tokens)
    if isinstance(settings, PrefixTuning):
        config.prefix_projection, config.encoder_hidden_size = True, settings.hidden_size
    return attach_prompt(model, config, context)
