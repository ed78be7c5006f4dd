"""Let a model continue a prompt, the same way for the same seed."""

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from schemas.errors import UserError
from tasks.data.model.loading import encoding, loading

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def generate(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompt: str,
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    seed: int,
    on_text: Callable[[str], None] | None = None,
    prompt_ids: Sequence[int] | None = None,
) -> str:
    """Return the model's continuation of the prompt (the prompt itself left out).

    prompt_ids stand for the prompt where a model was tuned to answer prompts in a frame (see `prompts`). temperature 0 takes the likeliest token each time. top_p: nucleus sampling (Holtzman et al., 2020,
    https://arxiv.org/abs/1904.09751), 1 for all tokens. on_text gets each new piece of text as it appears.

    Raises:
        UserError: an empty prompt for a model without a start token, a prompt too long for the model, a setting
            out of range.
    """
    import torch

    require_settings(max_new_tokens, temperature, top_p, seed)
    ids = _prompt_ids(model, tokenizer, prompt, max_new_tokens, prompt_ids)
    device, where = next(model.parameters()).device, str(getattr(model, "name_or_path", "the model"))
    pieces = _TextPieces(tokenizer, on_text)
    input_ids = torch.tensor([ids], device=device)  # (1, T)
    sampling = (
        {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0}
        if temperature > 0
        else {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    )
    was_training = model.training
    model.train(False)
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.inference_mode():
            torch.manual_seed(seed)
            with loading(
                "the model cannot generate", where, "see its config.json and generation_config.json"
            ):
                cast(Any, model).generate(
                    input_ids=input_ids,
                    attention_mask=torch.ones_like(input_ids),
                    max_new_tokens=max_new_tokens,
                    pad_token_id=_pad_id(tokenizer),
                    streamer=pieces,
                    logits_processor=[functools.partial(_require_numbers, where)],
                    **sampling,
                )
    finally:
        model.train(was_training)
    return pieces.text


def _require_numbers(where: str, _: "torch.Tensor", scores: "torch.Tensor") -> "torch.Tensor":
    """Let pass logits that say something of the next token, (rows, vocabulary)."""
    import torch

    if torch.isnan(scores).any() or torch.isposinf(scores).any() or torch.isneginf(scores).all():
        fix = "see its config.json, or fetch or train it again"
        raise UserError("the model's answer is no number (NaN or infinite)", where, fix)
    return scores


class _TextPieces:
    """What `model.generate` tells its streamer: first the prompt, then each token, then the end.

    Decodes prompt and continuation together, so the space before the first new word and characters that span
    several tokens come out right; a character not yet complete is held back.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", on_text: Callable[[str], None] | None):
        self.tokenizer, self.on_text = tokenizer, on_text
        self.ids: list[int] = []
        self.prompt: str | None = None
        self.text = ""

    def put(self, value: "torch.Tensor") -> None:
        self.ids += value.flatten().tolist()
        if self.prompt is None:
            self.prompt = self._decode()
            return
        self._emit(self._decode().rstrip("\ufffd"))

    def end(self) -> None:
        self._emit(self._decode())

    def _decode(self) -> str:
        text = self.tokenizer.decode(self.ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return cast(str, text)

    def _emit(self, whole: str) -> None:
        new = whole[len(self.prompt or "") + len(self.text) :]
        self.text += new
        if new and self.on_text is not None:
            self.on_text(new)


def _prompt_ids(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompt: str,
    max_new_tokens: int,
    framed: Sequence[int] | None,
) -> list[int]:
    """Encode the prompt behind the start token, if the tokenizer has one."""
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    with encoding(getattr(model, "name_or_path", "the model")):
        ids: list[int] = (
            start + tokenizer.encode(prompt, add_special_tokens=False) if framed is None else list(framed)
        )
    if not ids:
        raise UserError("the prompt is empty", "PROMPT", "give the model at least one word to continue")
    rows = model.get_input_embeddings().weight.shape[0]  # type: ignore[index]
    if max(ids) >= rows:
        what = f"the prompt has a token of id {max(ids)}, and the model's embedding has {rows} rows"
        raise UserError(
            what, "PROMPT", "leave that token out, or use the tokenizer that the model was trained with"
        )
    context_length = getattr(model.config, "max_position_embeddings", None)
    virtual = _virtual_tokens(model)
    if context_length is not None and virtual + len(ids) + max_new_tokens > context_length:
        room = context_length - virtual - len(ids)
        fix = f"ask for at most {room} new tokens" if room > 0 else "shorten the prompt"
        raise UserError(
            f"the prompt has {len(ids)} tokens and {max_new_tokens} more are asked for, but the model reads"
            f" {context_length} in all" + (f", {virtual} of them virtual" if virtual else ""),
            "PROMPT",
            fix,
        )
    return ids


def _virtual_tokens(model: Any) -> int:
    """Positions of the model's context that a prompt method has taken (PEFT's)."""
    configs = getattr(model, "peft_config", None) or {}
    return sum(getattr(config, "num_virtual_tokens", None) or 0 for config in configs.values())


def require_settings(max_new_tokens: int, temperature: float, top_p: float, seed: int) -> None:
    """Refuse what cannot be sampled with, before a model is loaded.

    Raises:
        UserError: a setting is out of range.
    """
    if not 0 <= seed < 2**63:
        raise UserError(f"seed is {str(seed)[:40]}", "--seed", f"give a whole number from 0 to {2**63 - 1}")
    if max_new_tokens < 1:
        raise UserError(
            f"{max_new_tokens} new tokens are asked for", "--max-new-tokens", "ask for at least 1"
        )
    if temperature != 0 and not 1e-3 <= temperature <= 100:
        fix = "give 0 (likeliest token), or a number from 0.001 to 100"
        raise UserError(f"temperature is {temperature}", "--temperature", fix)
    if not 0 < top_p <= 1:
        raise UserError(f"top_p is {top_p}", "--top-p", "give a share above 0 and at most 1")


def _pad_id(tokenizer: "PreTrainedTokenizerBase") -> int | None:
    pad: int | None = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    return pad
