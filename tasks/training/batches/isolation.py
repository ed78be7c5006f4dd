"""Prove on the model at hand that packed documents do not see each other."""

from typing import Any

from schemas.errors import UserError

TOLERANCE = 1e-4  # float32; bf16 rounding of the untouched half is exactly repeatable too


def require_isolation(model: Any, sequence_length: int) -> None:
    """Change one document of a packed pair and require that the other's logits stay.

    Raises:
        UserError: they move, so this architecture cannot be trained on packed documents.
    """
    import torch

    half = min(8, sequence_length // 2)
    vocabulary = int(model.config.get_text_config().vocab_size)
    first = torch.arange(2 * half).remainder(vocabulary)[None]  # (1, 2 * half)
    second = first.clone()
    second[0, :half] = (first[0, :half] + 1).remainder(vocabulary)
    positions = torch.arange(half).repeat(2)[None]
    model.eval()
    with torch.inference_mode():
        logits = [
            model(input_ids=ids.to(model.device), position_ids=positions.to(model.device), use_cache=False)
            .logits[0, half:]
            .float()
            for ids in (first, second)
        ]
    difference = float((logits[0] - logits[1]).abs().max())
    if difference > TOLERANCE:
        raise UserError(
            f"in this architecture packed documents see each other (logits move by {difference:.2g})",
            f"base: {type(model).__name__}",
            "choose a model whose attention follows position_ids (Llama, Qwen, Mistral, Gemma and most others do)",
        )
