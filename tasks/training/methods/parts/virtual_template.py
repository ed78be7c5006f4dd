"""Virtual tokens in a text: where each slot of the longer sequence comes from, and how a model is made to read it."""

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from schemas.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasks.training.methods.parts.insertion import Active, Handles

IGNORED = -100
Groups = tuple[tuple[int, int], ...]


def slots_of(text: int, groups: Groups) -> int:
    """Slots that this many text tokens and their virtual ones fill: virtual tokens follow at once on what they follow."""
    return text + sum(count for before, count in groups if before <= text)


def text_in(slots: int, groups: Groups) -> int:
    """Text tokens among the slots of a cache, which holds whole calls."""
    return next(text for text in range(slots + 1) if slots_of(text, groups) == slots) if slots else 0


def lay_out(text: int, groups: Groups) -> tuple[torch.Tensor, torch.Tensor]:
    """For each slot: the text token it is, or follows; and the virtual token it is, or -1. Both (slots,)."""
    source = torch.zeros(slots_of(text, groups), dtype=torch.long)
    virtual = torch.full_like(source, -1)
    own = torch.arange(text)
    source[torch.tensor([slots_of(i, groups) for i in range(text)], dtype=torch.long)] = own
    first = 0
    for before, count in groups:
        if before <= text:
            at = slots_of(before, groups) - count
            source[at : at + count] = max(before - 1, 0)
            virtual[at : at + count] = torch.arange(first, first + count)
        first += count
    return source, virtual


class Encoder(nn.Module):
    """Makes n virtual tokens (n, d) of as many trained vectors: a two-layer bidirectional LSTM, then two linear layers."""

    def __init__(self, count: int, width: int, kind: str):
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(count, width))
        half = max(1, width // 2)
        self.lstm = nn.LSTM(width, half, num_layers=2, bidirectional=True) if kind == "lstm" else None
        self.layers = nn.Sequential(
            nn.Linear(2 * half if kind == "lstm" else width, width), nn.ReLU(), nn.Linear(width, width)
        )

    def forward(self) -> torch.Tensor:
        inner = self.lstm(self.vectors)[0] if self.lstm is not None else self.vectors
        made: torch.Tensor = self.layers(inner)
        return made


class VirtualTokens(nn.Module):
    """The virtual tokens of a template, made by an encoder or stored."""

    def __init__(self, groups: Groups, width: int, encoder: Encoder | None):
        super().__init__()
        self.groups = groups
        self.__dict__["encoder"] = encoder  # stored once, as a module of its own
        if encoder is None:
            self.embeddings = nn.Parameter(torch.zeros(sum(count for _, count in groups), width))

    def table(self) -> torch.Tensor:
        """Embeddings (n, d)."""
        encoder = self.__dict__["encoder"]
        made: torch.Tensor = self.embeddings if encoder is None else encoder()
        return made


def around(model: Any) -> "Callable[[Any, Active], Handles]":
    """Let the model read the text with its virtual tokens, and answer for the text alone."""

    def connect(tokens: VirtualTokens, active: "Active") -> "Handles":
        answers: list[tuple[torch.Tensor, int]] = []

        def before(_: Any, args: Any, kwargs: dict[str, Any]) -> Any:
            if not active():
                return None
            changed = dict(kwargs)
            if args:
                changed["input_ids"] = args[0]
            answers[:] = [_insert(model, tokens, changed)]
            return (), changed

        def after(_: Any, args: Any, output: Any) -> Any:
            if not active():
                return None
            places, keep = answers.pop()
            logits = output.logits[:, places.to(output.logits.device)]
            output.logits = logits[:, -keep:] if keep else logits
            return output

        first = model.register_forward_pre_hook(before, with_kwargs=True)
        return [first, model.register_forward_hook(after)]

    return connect


def _insert(model: Any, tokens: VirtualTokens, kwargs: dict[str, Any]) -> tuple[torch.Tensor, int]:
    """Change the model's arguments from text to slots; return where each text token's successor is predicted.

    Raises:
        UserError: the longer sequence exceeds the model's context.
        ValueError: padding in front of the text: places in it could not be counted from its start.
    """
    ids, mask = kwargs.pop("input_ids"), kwargs.get("attention_mask")
    cache = kwargs.get("past_key_values")
    cached = int(cache.get_seq_length()) if cache is not None else 0
    seen = text_in(cached, tokens.groups)
    text = seen + ids.shape[1]
    source, virtual = (part.to(ids.device) for part in lay_out(text, tokens.groups))
    _require_room(model, len(source))
    fresh = slice(cached, None)
    embedded = model.get_input_embeddings()(ids)[:, (source[fresh] - seen).clamp(min=0)]  # (B, S, d)
    made = tokens.table().to(embedded.dtype)[virtual[fresh].clamp(min=0)]  # (S, d)
    is_virtual = virtual[fresh] >= 0
    kwargs["inputs_embeds"] = torch.where(is_virtual[None, :, None], made[None], embedded)
    kwargs["position_ids"] = torch.arange(cached, len(source), device=ids.device)[None].expand(len(ids), -1)
    if mask is not None:
        if bool((mask[:, 0] == 0).any()):
            raise ValueError("p_tuning_template counts places from the start of a text: pad on the right")
        kwargs["attention_mask"] = mask[:, source]
    if kwargs.get("labels") is not None:
        kwargs["labels"] = kwargs["labels"][:, source].masked_fill(virtual >= 0, IGNORED)
    keep = kwargs.pop("logits_to_keep", 0) or 0
    places = [slots_of(i + 1, tokens.groups) - 1 - cached for i in range(seen, text)]
    return torch.tensor(places, dtype=torch.long), int(keep)


def _require_room(model: Any, slots: int) -> None:
    most = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if most is not None and slots > most:
        what = f"the text and its virtual tokens are {slots} tokens, the model reads {most}"
        raise UserError(what, "method.template", "shorten the text, or what is to be generated")
