"""Methods that train some of the base's own parameters: keep the originals, store what changed, swap back."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.errors import UserError
from tasks.training.methods.base import TRAINED, TrainingContext, Tuned
from tasks.training.models.soundness import read_tensors

if TYPE_CHECKING:
    import torch

FILE = "changed.safetensors"


class OwnWeights(Tuned):
    """A model in which the parameters named in `originals` differ from the base's."""

    def __init__(self, model: Any, originals: "dict[str, torch.Tensor]"):
        self.model = model
        self.originals = originals
        self.named: dict[str, dict[str, torch.Tensor]] = {}
        """Where there are several: name -> the parameters that it changes, with its values."""

    def save(self, folder: Path, reference: str) -> None:
        """Write the parameters that trained, whole."""
        from safetensors.torch import save_file

        own = dict(self.model.named_parameters())
        tensors = {name: own[name].detach().cpu().contiguous() for name in sorted(self.originals)}
        save_file(tensors, folder / FILE, metadata={"format": "pt"})

    @contextlib.contextmanager
    def disabled(self) -> Iterator[None]:
        """The base as it was: its own values in place of the trained ones."""
        own = dict(self.model.named_parameters())
        trained = {name: own[name].data for name in self.originals}
        for name, original in self.originals.items():
            own[name].data = original.to(own[name].device)
        try:
            yield
        finally:
            for name, data in trained.items():
                own[name].data = data

    def add(self, name: str, folder: Path) -> None:
        """Keep in memory what another training saved; the parameters that it changed, whole.

        Raises:
            UserError: the base has no such parameters.
        """
        own = dict(self.model.named_parameters())
        if not self.named:
            self.named[TRAINED] = {changed: own[changed].data for changed in self.originals}
        self.named[name] = {
            changed: tensor.to(own[changed]) for changed, tensor in _read_changed(own, folder).items()
        }
        for changed in self.named[name].keys() - self.originals.keys():
            self.originals[changed] = own[changed].detach().clone()

    def activate(self, name: str) -> None:
        """Put this one's values in place, and the base's where it changed nothing."""
        own = dict(self.model.named_parameters())
        for changed, original in self.originals.items():
            own[changed].data = self.named[name].get(changed, original).to(own[changed].device)

    def merge(self) -> Any:
        """The model itself: what was trained are its own weights."""
        return self.model


class WholeModel(Tuned):
    """A model whose own weights trained and are deployed whole, without the base."""

    def __init__(self, model: Any):
        self.model = model

    def save(self, folder: Path, reference: str) -> None:
        """Write the whole model."""
        self.model.save_pretrained(folder)

    @contextlib.contextmanager
    def disabled(self) -> Iterator[None]:
        """Not to be had: the base's weights are gone."""
        raise NotImplementedError("the base's weights were trained and not kept: load the base itself")
        yield

    def merge(self) -> Any:
        """The model itself: nothing stands beside its weights."""
        return self.model


def load_whole(model: Any, folder: Path, settings: Any) -> WholeModel:
    """The model in `folder` is the base's whole replacement."""
    return WholeModel(model)


def train_only(model: Any, names: set[str], context: TrainingContext) -> OwnWeights:
    """Let the named parameters train, and the task's head; everything else is frozen."""
    originals = {}
    for name, parameter in model.named_parameters():
        wanted = name in names or in_head(name, context)
        parameter.requires_grad_(wanted)
        if wanted:
            originals[name] = parameter.detach().clone()
    return OwnWeights(model, originals)


def load_changed(model: Any, folder: Path, settings: Any) -> OwnWeights:
    """Put the parameters saved in `folder` in the place of the base's.

    Raises:
        UserError: the base has no such parameters.
    """
    import torch

    own = dict(model.named_parameters())
    changed = _read_changed(own, folder)
    originals = {name: own[name].detach().clone() for name in changed}
    with torch.no_grad():
        for name, tensor in changed.items():
            own[name].copy_(tensor)
    return OwnWeights(model, originals)


def _read_changed(own: "dict[str, torch.Tensor]", folder: Path) -> "dict[str, torch.Tensor]":
    changed = read_tensors(folder / FILE)
    for name, tensor in changed.items():
        if name not in own or own[name].shape != tensor.shape:
            raise misfit(name, folder)
    return changed


def misfit(name: str, folder: Path) -> UserError:
    """What is said when a saved tensor has no place in the base."""
    return UserError(
        f"the saved weights do not fit the base: it has no {name} of that shape",
        str(folder),
        "load them on the base they were trained on, named in method.json",
    )


def in_head(name: str, context: TrainingContext) -> bool:
    """Whether a parameter belongs to the task's new head."""
    return any(f".{head}." in f".{name}" for head in context.head)


def find_blocks(model: Any) -> str:
    """Name of the model's list of layers: its longest ModuleList of modules of one type.

    Raises:
        UserError: there is none.
    """
    import torch

    lists: dict[str, int] = {
        name: len(module)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.ModuleList) and len({type(block) for block in module}) == 1
    }
    if not lists:
        raise UserError(
            f"{type(model).__name__} has no list of equal layers to choose from",
            "method.kind",
            "choose another method (rootstock methods lists them)",
        )
    return max(lists, key=lambda name: (lists[name], -len(name)))


def layer_of(name: str, blocks: str) -> int | None:
    """Index of the layer that a parameter belongs to; None outside the layers."""
    if not name.startswith(f"{blocks}."):
        return None
    return int(name.removeprefix(f"{blocks}.").split(".", 1)[0])


def gradients_of_batches(model: Any, context: TrainingContext, count: int, take: Callable[[], None]) -> int:
    """Call `take` after the backward pass of each of the first `count` micro-batches; return how many there were.

    Every parameter gets a gradient; which require one afterwards is the caller's business.
    """
    import torch

    from tasks.training.device import find_device

    context.require_one_task("it chooses by gradients of the labels' likelihood among all outputs")
    device = find_device()
    model.to(device.name).requires_grad_(True)
    model.eval()
    done = 0
    for batch in context.batches():
        if done == count:
            break
        model.zero_grad(set_to_none=True)
        with torch.autocast(device.name, torch.bfloat16, enabled=device.autocast):
            model(
                **{key: value.to(device.name) for key, value in batch.items()}, use_cache=False
            ).loss.backward()
        take()
        done += 1
    model.zero_grad(set_to_none=True)
    return done
