"""Whether a model folder's parts belong together, before it is used: configuration, weights, tokenizer."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.errors import UserError
from tasks.data.model.folder import read_config, weight_files
from tasks.data.model.loading import loading
from tasks.data.tokens.tokenizer import highest_id

if TYPE_CHECKING:
    import torch

_DEPTHS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "decoder_layers")
_WIDTHS = ("vocab_size", "hidden_size", "intermediate_size", "n_embd", "n_inner", "d_model", "dim", "ffn_dim", "d_ff", "embedding_size")  # fmt: skip
_COMPUTED = ("inv_freq", "position_ids", "masked_bias", "attn.bias", "attention.bias", "num_batches_tracked")
"""Ends of names of what older versions of transformers stored and newer ones compute."""


def _stored(folder: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Name -> shape and safetensors' name of the dtype."""
    from safetensors import safe_open

    found: dict[str, tuple[tuple[int, ...], str]] = {}
    for file in weight_files(folder):
        with (
            loading("cannot read the weights", file, "fetch the model again"),
            safe_open(file, framework="np") as tensors,
        ):
            for name in tensors.keys():  # noqa: SIM118
                part = tensors.get_slice(name)
                found[name] = tuple(part.get_shape()), str(part.get_dtype())
    return found


def require_plausible(folder: Path, fix: str) -> None:
    """Refuse a configuration of far more than is stored: building it would fill the memory before it is refused.

    And weights that are no fractions where none is quantised: they would be cast without a word.

    Raises:
        UserError: it asks for more layers than there are tensors, or a width that no tensor has; a weight is stored as an
            integer.
    """
    stored, file = _stored(folder), folder / "config.json"
    shapes = {name: shape for name, (shape, _) in stored.items()}
    widest = max((side for shape in shapes.values() for side in shape), default=0)
    whole = read_config(file)
    for name, (_, dtype) in stored.items():
        if (
            name.endswith((".weight", ".bias"))
            and dtype.startswith(("I", "U", "BOOL"))
            and "quantization_config" not in whole
            and not name.endswith(_COMPUTED)
        ):
            raise UserError(
                f"{name} is stored as integers ({dtype}), and nothing says how to read them", str(folder), fix
            )
    inner = whole.get("text_config")
    for config in (whole, inner if isinstance(inner, dict) else {}):
        for keys, most, have in ((_DEPTHS, len(shapes), "tensors"), (_WIDTHS, widest, "as the widest side")):
            for key in keys:
                value = config.get(key)
                if isinstance(value, int) and (value > most or (value < 1 and keys is _DEPTHS)):
                    what = f"the configuration and the weights disagree: {key} is {value}, the weights have {most} {have}"
                    raise UserError(what, str(file), fix)


def require_shapes(
    mismatched: Iterable[tuple[str, Sequence[int], Sequence[int]]], folder: Path, fix: str
) -> None:
    """Refuse weights of other shapes than the configuration's.

    Raises:
        UserError: naming the first.
    """
    for name, stored, wanted in sorted(mismatched, key=lambda one: one[0]):
        what = f"the configuration and the weights disagree: {name} is stored as {list(stored)}, not {list(wanted)}"
        raise UserError(what, str(folder), fix)


def require_no_stray(model: Any, unexpected: Iterable[str], folder: Path, fix: str) -> None:
    """Refuse weights for which a layer of the model has no place: they would be left out without a word.

    What belongs to whole parts that the model does not have (another head, a vision tower) is no fault.

    Raises:
        UserError: naming the first.
    """
    import torch

    modules = dict(model.named_modules())
    lists = {name for name, module in modules.items() if isinstance(module, torch.nn.ModuleList)}
    for key in sorted(unexpected):
        if key.endswith(_COMPUTED):
            continue
        for name in (
            key,
            f"{model.base_model_prefix}.{key}",
            key.removeprefix(f"{model.base_model_prefix}."),
        ):
            parts = name.split(".")
            above = {".".join(parts[:end]) for end in range(1, len(parts))}
            if above & lists:
                what = f"the weights have {key}, for which the configuration has no place"
                raise UserError(what, str(folder), fix)


def require_finite(tensors: "Iterable[tuple[str, torch.Tensor]]", where: Path) -> None:
    """Refuse weights that are not numbers: every answer would be nonsense.

    Raises:
        UserError: naming the first.
    """
    import torch

    for name, tensor in tensors:
        if not tensor.is_floating_point() or not tensor.numel():
            continue
        small = tensor.float() if tensor.element_size() == 1 else tensor
        if not torch.isfinite(torch.stack(torch.aminmax(small.detach()))).all():  # one pass, and NaN wins
            bad = int(math.prod(tensor.shape) - torch.isfinite(small).sum())
            what = f"{bad:,} of the numbers in {name} are not finite (NaN or infinite)"
            raise UserError(what, str(where), "train or fetch the model again")


def require_ids_fit(model: Any, folder: Path) -> None:
    """Refuse a tokenizer that gives ids for which the model has no embedding.

    Raises:
        UserError: naming the highest id.
    """

    file = folder / "tokenizer.json"
    if not file.is_file():
        return
    highest, token = highest_id(folder)
    rows = int(model.get_input_embeddings().weight.shape[0])
    if highest >= rows:
        what = f"the tokenizer and the model disagree: token {token!r} has id {highest}, the embedding has {rows} rows"
        raise UserError(what, str(file), "name a model with the tokenizer it was trained with")


def require_positions(model: Any, length: int, where: str = "training.sequence_length") -> None:
    """Refuse sequences longer than a model that learnt its positions knows: it has no embedding for the rest.

    Raises:
        UserError: naming how many it knows.
    """
    import torch

    known = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    learnt = any(
        isinstance(module, torch.nn.Embedding) and ("position" in name.lower() or name.endswith("wpe"))
        for name, module in model.named_modules()
    )
    if learnt and isinstance(known, int) and length > known:
        what = f"the model cannot read {length} tokens: it knows {known} positions"
        raise UserError(what, where, f"write {known} or less")


def read_tensors(file: Path) -> "dict[str, torch.Tensor]":
    """The tensors of a safetensors file that a method stored.

    Raises:
        UserError: it is missing or damaged, or holds what is no number.
    """
    from safetensors.torch import load_file

    fix = "train the model again, or fetch it again"
    if not file.is_file():
        raise UserError(f"{file.name} is missing from the model", str(file), fix)
    with loading("cannot read the weights", file, fix):
        tensors = load_file(file)
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() and "indices" not in name:
            raise UserError(f"{name} is stored in {str(tensor.dtype).removeprefix('torch.')}", str(file), fix)
    require_finite(tensors.items(), file)
    return tensors
