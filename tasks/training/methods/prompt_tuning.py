"""Prompt tuning: The Power of Scale for Parameter-Efficient Prompt Tuning (Lester et al., 2021, https://arxiv.org/abs/2104.08691)."""

from typing import Any

from schemas.errors import UserError
from schemas.spec.methods.peft import PromptTuning
from tasks.data.tokens.tokenizer import load_tokenizer
from tasks.training.methods.base import TrainingContext, Tuned
from tasks.training.methods.parts.virtual_tokens import attach_prompt

FREQUENT = 5000
"""Tokens to draw from: the paper takes the commonest, and vocabularies list tokens about in that order."""


def attach(model: Any, settings: PromptTuning, context: TrainingContext) -> Tuned:
    """Train embeddings P (virtual_tokens, d) that stand in front of the text's own.

    Raises:
        UserError: the model's context has no room for them, or the text to start from has no tokens.
    """
    import torch
    from peft import PromptTuningConfig

    start = _start(model.get_input_embeddings().weight, settings, context)
    config = PromptTuningConfig(num_virtual_tokens=settings.virtual_tokens)
    tuned = attach_prompt(model, config, context)
    with torch.no_grad():
        tuned.model.prompt_encoder["default"].embedding.weight.copy_(start)
    return tuned


def _start(embeddings: Any, settings: PromptTuning, context: TrainingContext) -> Any:
    """Where the embeddings start, (virtual_tokens, d)."""
    import torch

    count, generator = settings.virtual_tokens, torch.Generator().manual_seed(context.seed)
    if settings.init == "random":  # uniform in [-0.5, 0.5], as in the paper
        return torch.rand(count, embeddings.shape[1], generator=generator) - 0.5
    if settings.init == "vocabulary":
        ids = torch.randint(0, min(FREQUENT, len(embeddings)), (count,), generator=generator)
    else:
        tokens = load_tokenizer(context.tokenizer).encode(settings.text or "", add_special_tokens=False).ids
        if not tokens:
            raise UserError("the text to start from has no tokens", "method.text", "write a word or more")
        ids = torch.tensor(tokens).repeat(-(-count // len(tokens)))[:count]
    return embeddings.detach()[ids.to(embeddings.device)].float()
