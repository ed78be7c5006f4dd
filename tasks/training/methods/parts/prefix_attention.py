"""Prefixes of ours inside attention: l keys and values in front of every document's own (Li and Liang, 2021).

They enter where transformers' models call their attention function, behind rotary embedding and cache. So the text's
position ids stay what they are, a cache holds the text alone (nothing is put in front twice), and in packed batches
every document sees the prefix and still no other document.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from schemas.errors import UserError
from tasks.training.methods.parts.structure import Architecture, first_tensor, probe

if TYPE_CHECKING:
    from tasks.training.methods.parts.insertion import Active, Handles

NAME = "rootstock_prefix"
SLOT = "rootstock_prefixes"
"""Attribute of an attention module: (prefix, whether it is in use now) of every name."""
WATCH = "rootstock_watch"
"""Attribute of an attention module: told of each call of the attention function."""
STD = 0.02


@dataclass(frozen=True)
class Attention:
    """One attention of the base, as it calls the attention function."""

    module: Any
    heads: int
    """Heads of keys and values."""
    key_size: int
    value_size: int


class Prefix(nn.Module):
    """Keys (l, heads, key_size) and values (l, heads, value_size) of one attention."""

    def __init__(self, attention: Attention, length: int):
        super().__init__()
        self.keys = nn.Parameter(torch.randn(length, attention.heads, attention.key_size) * STD)
        self.values = nn.Parameter(torch.randn(length, attention.heads, attention.value_size) * STD)

    def tensors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values, each (l, heads, size)."""
        return self.keys, self.values

    def see(self, hidden: torch.Tensor) -> None:
        """Called with the attention's input (B, T, d) before it is computed."""

    def weight(self) -> torch.Tensor | None:
        """Weight of the prefix for each token, (B, T, 1); None where it has none."""
        return None


class Trunk(nn.Module):
    """What the prefixes of all attentions are made from: tanh(W E + b), E (l, d), W (m, d) (Li and Liang, section 4.3)."""

    def __init__(self, length: int, width: int, units: int):
        super().__init__()
        self.embedding = nn.Parameter(torch.randn(length, width))
        self.down = nn.Linear(width, units)

    def forward(self) -> torch.Tensor:
        """(l, m)."""
        return torch.tanh(self.down(self.embedding))


class MadePrefix(Prefix):
    """A prefix that a layer makes from the trunk: the same function as one large layer for all attentions."""

    def __init__(self, attention: Attention, trunk: Trunk):
        nn.Module.__init__(self)
        self.shape = (attention.heads, attention.key_size, attention.value_size)
        self.up = nn.Linear(trunk.down.out_features, attention.heads * sum(self.shape[1:]))
        self.__dict__["trunk"] = trunk  # stored once, as a module of its own

    def tensors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values, each (l, heads, size)."""
        heads, key_size, value_size = self.shape
        both = self.up(self.__dict__["trunk"]())
        keys, values = both.split([heads * key_size, heads * value_size], dim=-1)
        return keys.unflatten(-1, (heads, key_size)), values.unflatten(-1, (heads, value_size))


def find_attentions(architecture: Architecture) -> list[Attention]:
    """The attention of each block, found by watching it call the attention function.

    Raises:
        UserError: a block's attention does not go through transformers' attention functions, or not once.
    """
    model = architecture.model
    found: list[list[Attention]] = [[] for _ in architecture.blocks]
    inside = [(number, m) for number, block in enumerate(architecture.blocks) for m in block.module.modules()]

    def watch(number: int, module: Any, key: torch.Tensor, value: torch.Tensor) -> None:
        found[number].append(Attention(module, key.shape[1], key.shape[-1], value.shape[-1]))

    use_prefix_attention(model)
    for number, module in inside:
        module.__dict__[WATCH] = partial(watch, number)
    try:
        probe(model)
    finally:
        for _, module in inside:
            del module.__dict__[WATCH]
    wrong = next((number for number, calls in enumerate(found) if len(calls) != 1), None)
    if wrong is not None:
        raise UserError(
            f"prefixes cannot be put into {type(model).__name__}: block {wrong} calls transformers' attention functions"
            f" {len(found[wrong])} times, not once",
            "method.kind",
            "choose a method without prefixes (adapter, lora), or a model of the Llama, GPT-2, OPT or BERT kind",
        )
    return [calls[0] for calls in found]


def use_prefix_attention(model: Any) -> None:
    """Let the model call `attend`, which without a prefix is sdpa itself.

    Raises:
        UserError: the model was loaded with another attention than sdpa.
    """
    implementation = model.config._attn_implementation
    if implementation == NAME:
        return
    if implementation != "sdpa":
        what = f"prefixes work with sdpa attention, the model has {implementation}"
        raise UserError(what, "method.kind", "load it with sdpa, or choose a method without prefixes")
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)


def within(attention: Attention) -> "Callable[[Any, Active], Handles]":
    """Let a prefix take part in an attention."""

    def connect(prefix: Any, active: "Active") -> "Handles":
        module = attention.module

        def keep(_: Any, args: Any, kwargs: Any) -> None:
            if active():
                prefix.see(first_tensor(args, kwargs))

        others = module.__dict__.setdefault(SLOT, [])
        others.append((prefix, active))
        return [module.register_forward_pre_hook(keep, with_kwargs=True), _Leave(others, prefix)]

    return connect


class _Leave:
    """Takes a prefix out of its attention again."""

    def __init__(self, others: list[Any], prefix: Any):
        self.others, self.prefix = others, prefix

    def remove(self) -> None:
        self.others[:] = [(prefix, active) for prefix, active in self.others if prefix is not self.prefix]


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **rest: Any,
) -> tuple[torch.Tensor, None]:
    """sdpa over [prefix; text]: query (B, H, Q, D), key and value (B, heads, K, size); returns (B, Q, H, size).

    With a gate g (B, Q, 1), each token sees prefix keys g P_k and values g P_v. That is one sdpa at twice the size:
    queries [q; g q], keys [k; 0] and [0; P_k], values [v; 0] and [0; P_v], and both halves of the result added up.
    """
    if WATCH in module.__dict__:
        module.__dict__[WATCH](module, key, value)
    prefix = next((prefix for prefix, active in module.__dict__.get(SLOT, ()) if active()), None)
    if prefix is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, is_causal, **rest
        )
    keys, values = (t.to(key.dtype).transpose(0, 1).expand(len(key), -1, -1, -1) for t in prefix.tensors())
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    mask = _with_prefix(attention_mask, query, key, keys.shape[2], causal)
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    gate = prefix.weight()
    if gate is None:
        both = torch.cat([keys, key], dim=2), torch.cat([values, value], dim=2)
        return sdpa_attention_forward(module, query, *both, mask, dropout, scaling, is_causal=False, **rest)
    gate = gate.to(query.dtype)
    doubled = torch.cat([query, query * gate[:, None]], dim=-1)
    both = _stacked(keys, key), _stacked(values, value)
    out, _ = sdpa_attention_forward(module, doubled, *both, mask, dropout, scaling, is_causal=False, **rest)
    text, ahead = out.split(value.shape[-1], dim=-1)
    return text + ahead * gate[:, :, None], None


def _stacked(prefix: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    """[0; P] in front of [k; 0]."""
    return torch.cat([nn.functional.pad(prefix, (prefix.shape[-1], 0)), nn.functional.pad(text, (0, text.shape[-1]))], dim=2)  # fmt: skip


def _with_prefix(
    mask: torch.Tensor | None, query: torch.Tensor, key: torch.Tensor, length: int, causal: bool
) -> torch.Tensor | None:
    """The mask with `length` columns in front that every token sees; None where every token sees everything."""
    if mask is None:
        if not causal or query.shape[2] == 1:
            return None
        mask = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device).tril()[
            None, None
        ]
    seen = 1.0 if mask.dtype == torch.bool else 0.0  # a mask of numbers is added to the scores
    return nn.functional.pad(mask, (length, 0), value=seen)
