"""Read a model's blocks: where attention and the feed-forward network begin and end, whatever the architecture.

Nothing is known of model families. The blocks are the longest list of modules that have attention; which layer comes
last in a sublayer is seen by watching a forward pass of four tokens.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from schemas.errors import UserError

PROBE_TOKENS = 4
LOOKED_FOR = (
    "a list of equal blocks, each with one attention (a module named attn or attention that holds linear layers)"
    " and a feed-forward network beside it"
)


@dataclass(frozen=True)
class Sublayer:
    """One residual branch of a block."""

    entry: Any
    """The module whose first input (B, T, d) is the sublayer's."""
    exit: Any
    """The module whose output (B, T, d) is the sublayer's, before dropout and the residual addition."""


@dataclass(frozen=True)
class Block:
    """One transformer layer."""

    module: Any
    attention: Sublayer
    feed_forward: Sublayer
    norms: tuple[Any, ...]
    """Normalisation layers of width d, in the block's own order."""


@dataclass(frozen=True)
class Architecture:
    """What can be inserted into."""

    model: Any
    blocks: tuple[Block, ...]
    width: int
    """d, the size of the hidden states."""


@dataclass
class _Call:
    module: Any
    first_input: Any
    output: Any = None


def read_architecture(model: Any) -> Architecture:
    """Find the blocks and their sublayers.

    Raises:
        UserError: the model is not made of such blocks, or a sublayer's end cannot be told.
    """
    modules = _block_list(model)
    calls = _watch(model, modules)
    blocks = tuple(_read_block(model, number, block, calls) for number, block in enumerate(modules))
    exits = [sublayer.exit for block in blocks for sublayer in (block.attention, block.feed_forward)]
    outputs = [_calls_of(exit, calls)[0].output for exit in exits]
    if len(set(map(id, exits))) < len(exits):
        raise _unreadable(model, "blocks share a sublayer")
    architecture = Architecture(model, blocks, width=outputs[0].shape[-1])
    _require_inside_branches(architecture)
    return architecture


def first_tensor(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The hidden states among a module's inputs: the first tensor, by position or else by name; None if there is none."""
    import torch

    return next((value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)), None)


def tensor_of(output: Any) -> Any:
    """The hidden states of a module that may give more besides."""
    return output[0] if isinstance(output, tuple) else output


def probe(model: Any) -> None:
    """Run four tokens through the model, without dropout or gradients."""
    _run(model, 0)


def _run(model: Any, first: int) -> None:
    import torch

    vocabulary = model.get_input_embeddings().num_embeddings
    ids = torch.arange(first, first + PROBE_TOKENS, device=model.device).remainder(vocabulary)[None]
    was_training = model.training
    model.train(False)
    try:
        with torch.no_grad():
            model(input_ids=ids)
    except (TypeError, ValueError, KeyError) as error:
        raise _unreadable(model, f"it does not take plain tokens ({error})") from None
    finally:
        model.train(was_training)


def is_linear(module: Any) -> bool:
    """Whether the module is a matrix product: also GPT-2's Conv1D and bitsandbytes' layers."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, nn.Linear | Conv1D)


def _block_list(model: Any) -> list[Any]:
    from torch import nn

    lists = [
        list(module)
        for module in model.modules()
        if isinstance(module, nn.ModuleList) and len(module) and all(_attentions(block) for block in module)
    ]
    if not lists:
        raise _unreadable(model, "it has no such list")
    return max(lists, key=len)


def _attentions(block: Any) -> list[Any]:
    """The children that attend to the block's own input."""
    return [
        child
        for name, child in block.named_children()
        if ("attn" in name or "attention" in name or "Attention" in type(child).__name__)
        and not any(other in name for other in ("cross", "encoder"))
        and any(is_linear(module) for module in child.modules())
    ]


def _read_block(model: Any, number: int, block: Any, calls: list[_Call]) -> Block:
    attentions = _attentions(block)
    if len(attentions) != 1:
        raise _unreadable(model, f"block {number} has {len(attentions)} attentions")
    (attention,) = attentions
    others = [
        child
        for name, child in block.named_children()
        if child is not attention
        and not any(other in name for other in ("cross", "encoder_attn"))
        and any(p.dim() > 1 for p in child.parameters())
    ]
    first = next((call.module for call in calls if any(call.module is child for child in others)), None)
    attention_end = _last_linear([attention], calls)
    if first is None or attention_end is None:
        raise _unreadable(model, f"block {number} has no feed-forward network that runs on every token")
    feed_forward_end = _last_linear(others, calls) if _is_all_linear(others) else _last_of(others, calls)
    into = _calls_of(block, calls)
    for part in (block, attention_end, feed_forward_end):
        if (times := len(_calls_of(part, calls))) != 1:
            raise _unreadable(model, f"a part of block {number} runs {times} times in one pass")
    width = into[0].first_input.shape[-1]
    for end in (attention_end, feed_forward_end):
        seen = _calls_of(end, calls)
        if seen[0].output.shape[-1] != width or seen[0].output.numel() != into[0].first_input.numel():
            raise _unreadable(model, f"a sublayer of block {number} does not end at the block's own width")
    return Block(
        block,
        Sublayer(attention, attention_end),
        Sublayer(first, feed_forward_end),
        _norms(block, width, set(map(id, attention.modules())), attention_end, calls),
    )


def _is_all_linear(children: list[Any]) -> bool:
    """False for a mixture of experts: its layers see some of the tokens, so its end is that of the whole."""
    from torch import nn

    matrices = {id(p) for child in children for p in child.parameters() if p.dim() > 1}
    linear = [m for child in children for m in child.modules() if is_linear(m)]
    nested = any(isinstance(m, nn.ModuleList) for child in children for m in child.modules())
    return not nested and matrices == {id(p) for m in linear for p in m.parameters() if p.dim() > 1}


def _last_linear(children: list[Any], calls: list[_Call]) -> Any:
    inside = {id(module) for child in children for module in child.modules() if is_linear(module)}
    return next((call.module for call in reversed(calls) if id(call.module) in inside), None)


def _last_of(children: list[Any], calls: list[_Call]) -> Any:
    return next(call.module for call in reversed(calls) if any(call.module is child for child in children))


def _norms(
    block: Any, width: int, in_attention: set[int], attention_end: Any, calls: list[_Call]
) -> tuple[Any, ...]:
    """Those over hidden states; norms of queries and keys come before attention's last layer."""
    order = [call.module for call in calls]
    return tuple(
        module
        for module in block.modules()
        if "norm" in type(module).__name__.lower()
        and (own := list(module.parameters(recurse=False)))
        and all(p.numel() == width for p in own)
        and (id(module) not in in_attention or order.index(module) > order.index(attention_end))
    )


def _calls_of(module: Any, calls: list[_Call]) -> list[_Call]:
    return [call for call in calls if call.module is module]


def _watch(model: Any, blocks: list[Any]) -> list[_Call]:
    """The calls of every module of the blocks in one forward pass, in the order in which they began."""
    calls: list[_Call] = []

    def begin(module: Any, args: Any, kwargs: Any) -> None:
        calls.append(_Call(module, first_tensor(args, kwargs)))

    def end(module: Any, args: Any, output: Any) -> None:
        next(call for call in reversed(calls) if call.module is module).output = tensor_of(output)

    watched = [module for block in blocks for module in block.modules()]
    handles = [module.register_forward_pre_hook(begin, with_kwargs=True) for module in watched]
    handles += [module.register_forward_hook(end) for module in watched]
    try:
        probe(model)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _require_inside_branches(architecture: Architecture) -> None:
    """With every sublayer silenced at its end, the last block must still depend on the tokens: through the residual.

    If it does not, a sublayer adds the residual itself, and what is put at its end would stand outside the branch.
    """
    import torch

    model, outputs = architecture.model, list[torch.Tensor]()
    last = architecture.blocks[-1].module
    with _silenced(architecture):
        handle = last.register_forward_hook(lambda _module, _args, output: outputs.append(tensor_of(output)))
        try:
            _run(model, 0)
            _run(model, 1)
        finally:
            handle.remove()
    if torch.equal(outputs[0], outputs[1]):
        raise _unreadable(model, "its sublayers add the residual themselves")


@contextmanager
def _silenced(architecture: Architecture) -> Iterator[None]:
    def silence(module: Any, args: Any, output: Any) -> Any:
        zero = tensor_of(output) * 0
        return (zero, *output[1:]) if isinstance(output, tuple) else zero

    exits = [s.exit for block in architecture.blocks for s in (block.attention, block.feed_forward)]
    handles = [module.register_forward_hook(silence) for module in exits]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _unreadable(model: Any, why: str) -> UserError:
    return UserError(
        f"modules cannot be inserted into {type(model).__name__}: {why}",
        "method.kind",
        f"choose another method (lora works on any linear layer), or a model with {LOOKED_FOR}",
    )
