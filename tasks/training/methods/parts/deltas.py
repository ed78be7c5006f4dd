"""Methods that train a few entries of the base's tensors: W + delta, computed anew in every forward pass.

The base's tensors stay as they are; what trains, decays and is stored are the entries of delta alone.
"""

import contextlib
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils import parametrize

from schemas.errors import UserError
from tasks.training.methods.base import TRAINED, TrainingContext
from tasks.training.methods.parts.own_weights import OwnWeights, in_head, misfit
from tasks.training.methods.parts.peft_backed import linear_layers, require_modules
from tasks.training.models.soundness import read_tensors

FILE = "deltas.safetensors"
Places = list[tuple[Any, str]]  # module, attribute


class Delta(torch.nn.Module):
    """What is added to one tensor of the base."""

    enabled = True

    def entries(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Flat indices (k,) and values (k,) of the entries that are not zero by construction."""
        raise NotImplementedError


class SparseDelta(Delta):
    """Values at fixed entries; all zero at the start."""

    indices: torch.Tensor

    def __init__(self, indices: torch.Tensor, device: torch.device):
        super().__init__()
        self.register_buffer("indices", indices.to(device))  # (k,)
        self.values = torch.nn.Parameter(torch.zeros(len(indices), device=device))  # (k,)

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """weight (any shape) with the values added to its entries."""
        if not self.enabled:
            return weight
        flat = weight.reshape(-1).to(self.values.dtype)
        return flat.index_add(0, self.indices, self.values).view_as(weight)

    def entries(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.indices, self.values.detach()


class DeltaTuned(OwnWeights):
    """A model some of whose tensors are computed as base + delta; `originals` are those of the task's head."""

    def __init__(
        self,
        model: Any,
        originals: dict[str, torch.Tensor],
        deltas: dict[str, Delta],
        places: dict[str, Places],
    ):
        super().__init__(model, originals)
        self.deltas, self.places = deltas, places
        self.by_name: dict[str, dict[str, Delta]] = {}
        """Where there are several: name -> its deltas; those of the one in use are `deltas`."""

    def save(self, folder: Path, reference: str) -> None:
        """Write indices and values of every tensor that has some, and the task's head."""
        from safetensors.torch import save_file

        if self.originals:
            super().save(folder, reference)
        tensors = {}
        for name, delta in self.deltas.items():
            indices, values = delta.entries()
            if len(indices):
                kind = torch.int32 if int(indices.max()) < 2**31 else torch.int64
                tensors[f"{name}.indices"] = indices.to(kind).cpu()
                tensors[f"{name}.values"] = values.float().cpu().contiguous()
        save_file(tensors, folder / FILE, metadata={"format": "pt"})

    @contextlib.contextmanager
    def disabled(self) -> Iterator[None]:
        """The base's tensors without their deltas."""
        for delta in self.deltas.values():
            delta.enabled = False
        try:
            with super().disabled():
                yield
        finally:
            for delta in self.deltas.values():
                delta.enabled = True

    def add(self, name: str, folder: Path) -> None:
        """Put saved entries of another training on the same tensors; they count once they are activated.

        Raises:
            UserError: the base has no such tensors.
        """
        self.by_name.setdefault(TRAINED, self.deltas)
        tensors = _saved_entries(folder)
        self.places |= places_of(self.model, tensors.keys() - self.places.keys())
        self.by_name[name] = _deltas_of(tensors, self.places, folder)
        for tensor, delta in self.by_name[name].items():
            delta.enabled = False
            for module, attribute in self.places[tensor]:
                parametrize.register_parametrization(module, attribute, delta, unsafe=True)

    def activate(self, name: str) -> None:
        """Compute with the deltas of this name, and no others."""
        self.deltas = self.by_name.get(name, self.deltas)
        for deltas in self.by_name.values():
            for delta in deltas.values():
                delta.enabled = deltas is self.deltas

    def merge(self) -> Any:
        """Add the deltas to the base's tensors, in place, and take the mechanism out."""
        for places in self.places.values():
            module, attribute = places[0]
            with torch.no_grad():
                whole = getattr(module, attribute).detach().clone()
                for module, attribute in places:
                    module.parametrizations[attribute].original.copy_(whole)
                    parametrize.remove_parametrizations(module, attribute, leave_parametrized=False)
        return self.model

    def state(self) -> dict[str, torch.Tensor]:
        """What trains, and where it stands in the tensors."""
        where = {
            f"indices:{name}": delta.indices
            for name, delta in self.deltas.items()
            if isinstance(delta, SparseDelta)
        }
        return {**super().state(), **where}

    def load_state(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take up values and their places."""
        for name, delta in self.deltas.items():
            if isinstance(delta, SparseDelta):
                delta.indices.copy_(tensors[f"indices:{name}"])
        super().load_state({name: t for name, t in tensors.items() if ":" not in name})

    def facts(self) -> dict[str, Any]:
        """Entries that differ from the base, by tensor."""
        counts = {name: len(delta.entries()[0]) for name, delta in self.deltas.items()}
        return {
            "entries": {name: count for name, count in counts.items() if count},
            "total": sum(counts.values()),
        }


def find_places(model: Any, targets: tuple[str, ...] | str, context: TrainingContext) -> dict[str, Places]:
    """Name of each tensor that may get a delta -> everywhere it is used (tied tensors have more than one place).

    Raises:
        UserError: the model has no module of a wanted name.
    """
    if targets == "all":
        wanted = {name for name, _ in model.named_parameters() if not in_head(name, context)}
    else:
        chosen = require_modules(model, targets, context)
        layers = linear_layers(model, context)
        wanted = {
            f"{name}.weight"
            for name in layers
            if isinstance(chosen, str) or any(name == last or name.endswith(f".{last}") for last in chosen)
        }
    return places_of(model, wanted)


def places_of(model: Any, names: Set[str]) -> dict[str, Places]:
    """Where the named tensors are used."""
    found: dict[str, Places] = {}
    by_identity = {id(p): name for name, p in model.named_parameters() if name in names}
    for module in model.modules():
        for attribute, parameter in module.named_parameters(recurse=False):
            if (name := by_identity.get(id(parameter))) is not None:
                found.setdefault(name, []).append((module, attribute))
    return found


def put_deltas(
    model: Any, deltas: dict[str, Delta], places: dict[str, Places], context: TrainingContext | None
) -> DeltaTuned:
    """Freeze the base, and let every named tensor be computed as itself + its delta; the task's head trains."""
    originals = {}
    for name, parameter in model.named_parameters():
        head = context is not None and in_head(name, context)
        parameter.requires_grad_(head)
        if head:
            originals[name] = parameter.detach().clone()
    for name, delta in deltas.items():
        for module, attribute in places[name]:
            # unsafe: a bf16 tensor with an fp32 delta is computed in fp32
            parametrize.register_parametrization(module, attribute, delta, unsafe=True)
    used = {name: places[name] for name in deltas}
    return DeltaTuned(model, originals, deltas, used)


def choose_sparse(
    model: Any, chosen: dict[str, torch.Tensor], places: dict[str, Places], context: TrainingContext
) -> DeltaTuned:
    """Let the entries `chosen` (name -> flat indices) train."""
    own = dict(model.named_parameters())
    deltas: dict[str, Delta] = {
        name: SparseDelta(indices, own[name].device) for name, indices in chosen.items() if len(indices)
    }
    return put_deltas(model, deltas, places, context)


def load_sparse(model: Any, folder: Path, settings: Any) -> DeltaTuned:
    """Put saved entries on the base.

    Raises:
        UserError: the base has no such tensors.
    """
    from tasks.training.methods.parts import own_weights

    head = (
        own_weights.load_changed(model, folder, settings) if (folder / own_weights.FILE).is_file() else None
    )
    tensors = _saved_entries(folder)
    places = places_of(model, tensors.keys())
    tuned = put_deltas(model, _deltas_of(tensors, places, folder), places, None)
    tuned.originals = head.originals if head else {}
    return tuned


def _saved_entries(folder: Path) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Name of a tensor -> flat indices (k,) and values (k,)."""

    tensors = read_tensors(folder / FILE)
    names = [key.removesuffix(".indices") for key in tensors if key.endswith(".indices")]
    paired = {f"{name}.{part}" for name in names for part in ("indices", "values")}
    if alone := sorted(paired ^ tensors.keys()):
        raise misfit(alone[0], folder)
    return {name: (tensors[f"{name}.indices"].long(), tensors[f"{name}.values"]) for name in names}


def _deltas_of(
    entries: dict[str, tuple[torch.Tensor, torch.Tensor]], places: dict[str, Places], folder: Path
) -> dict[str, Delta]:
    deltas: dict[str, Delta] = {}
    for name, (indices, values) in entries.items():
        tensor = getattr(*places[name][0]) if name in places else None
        if (
            tensor is None
            or indices.shape != values.shape
            or int(indices.min()) < 0
            or int(indices.max()) >= tensor.numel()
        ):
            raise misfit(name, folder)
        delta = SparseDelta(indices, tensor.device)
        with torch.no_grad():
            delta.values.copy_(values)
        deltas[name] = delta
    return deltas


def count_of(share: float, total: int) -> int:
    """Entries that a share of `total` is.

    Raises:
        UserError: there is nothing to choose from.
    """
    if total == 0:
        raise UserError("there are no weights to choose from", "method.target_modules", "name other modules")
    return max(1, round(share * total))


def largest(scores: dict[str, torch.Tensor], k: int) -> dict[str, torch.Tensor]:
    """Flat indices of the k largest scores over all tensors, by tensor name; memory for k of them at a time."""
    best = torch.empty(0)
    tensor_of = torch.empty(0, dtype=torch.long)
    index_of = torch.empty(0, dtype=torch.long)
    for number, score in enumerate(scores.values()):
        top = score.flatten().topk(min(k, score.numel()))
        best = torch.cat([best, top.values.cpu()])
        tensor_of = torch.cat([tensor_of, torch.full((len(top.values),), number)])
        index_of = torch.cat([index_of, top.indices.cpu()])
        kept = best.topk(min(k, len(best))).indices
        best, tensor_of, index_of = best[kept], tensor_of[kept], index_of[kept]
    return {name: index_of[tensor_of == number].sort().values for number, name in enumerate(scores)}
