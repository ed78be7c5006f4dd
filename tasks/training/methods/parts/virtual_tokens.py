"""Methods that put virtual tokens in front of every text: what they have in common."""

from typing import Any

from schemas.errors import UserError
from tasks.training.methods.base import TrainingContext
from tasks.training.methods.parts.peft_backed import PeftTuned, attach_peft


def attach_prompt(model: Any, config: Any, context: TrainingContext) -> PeftTuned:
    """Put virtual tokens in front of every text that the model sees.

    Raises:
        UserError: the model's context has no room for them, or the model takes no notice of them.
    """
    _require_room(model, config.num_virtual_tokens, context.sequence_length)
    tuned = PeftTuned(attach_peft(model, config, context))
    _require_effect(tuned)
    return tuned


def _require_room(model: Any, virtual_tokens: int, sequence_length: int) -> None:
    room = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if room is not None and virtual_tokens + sequence_length > room:
        raise UserError(
            f"{virtual_tokens} virtual tokens and texts of {sequence_length} are more than the {room} tokens"
            " that the model reads",
            "method.virtual_tokens",
            f"set training.sequence_length to at most {room - virtual_tokens}, or take fewer virtual tokens",
        )


def _require_effect(tuned: PeftTuned) -> None:
    """Some architectures drop the cache in which a prefix is handed over, and would train nothing."""
    import torch

    ids = torch.arange(3, 7, device=tuned.model.device)[None]  # (1, 4)
    mode = tuned.model.training
    tuned.model.eval()
    with torch.inference_mode():
        with tuned.disabled():
            plain = tuned.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        prompted = tuned.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    tuned.model.train(mode)
    if torch.equal(prompted[:, -plain.shape[1] :], plain):
        raise UserError(
            f"{type(tuned.model.get_base_model()).__name__} takes no notice of virtual tokens",
            "method.kind",
            "choose another method (rootstock methods lists them)",
        )
