"""P-tuning: GPT Understands, Too (Liu et al., 2021, https://arxiv.org/abs/2103.10385)."""

from typing import Any

from schemas.spec.methods.peft import PTuning
from tasks.training.methods.base import TrainingContext, Tuned
from tasks.training.methods.parts.virtual_tokens import attach_prompt


def attach(model: Any, settings: PTuning, context: TrainingContext) -> Tuned:
    """Train an encoder that makes embeddings (virtual_tokens, d) in front of the text's own; its output is kept.

    Raises:
        UserError: the model's context has no room for them.
    """
    from peft import PromptEncoderConfig

    config = PromptEncoderConfig(
        num_virtual_tokens=settings.virtual_tokens,
        encoder_reparameterization_type=settings.encoder.upper(),
        encoder_hidden_size=settings.hidden_size,
        encoder_dropout=settings.dropout,
    )
    return attach_prompt(model, config, context)
