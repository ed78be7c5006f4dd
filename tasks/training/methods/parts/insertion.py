"""Modules of ours in a frozen base: put in by hooks, so the base's own parameters keep their names and values."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from schemas.errors import UserError
from tasks.data.model.folder import METHOD_FILE
from tasks.training.methods.base import TRAINED, Tuned
from tasks.training.methods.parts.structure import (
    Architecture,
    Sublayer,
    first_tensor,
    read_architecture,
    tensor_of,
)
from tasks.training.models.soundness import read_tensors
from tasks.training.models.tuned_files import read_method

if TYPE_CHECKING:
    import torch

    Active = Callable[[], bool]
    Handles = list[torch.utils.hooks.RemovableHandle]

CONTAINER = "rootstock"
"""Child of the model that holds the inserted modules: no name of the base begins with it."""
WEIGHTS = "inserted.safetensors"


@dataclass(frozen=True)
class Inserted:
    """One module and how it takes part in the base's computation."""

    module: Any
    connect: "Callable[[Any, Active], Handles] | None" = None
    """(module, whether it is in use now) -> hooks on the base; None for what only other inserted modules call."""
    block: int | None = None
    """Number of the block it works in, from the input on; None if it belongs to the whole."""


Modules = Mapping[str, Inserted]
Build = Callable[[Architecture, Any, Path | None], Modules]
"""(what the model is made of, settings, folder they will be filled from or None) -> new modules by name."""


def behind(sublayer: Sublayer) -> "Callable[[Any, Active], Handles]":
    """Let module(output, input) replace the sublayer's output, both (B, T, d)."""

    def connect(module: Any, active: "Active") -> "Handles":
        kept: list[Any] = []

        def keep(_: Any, args: Any, kwargs: Any) -> None:
            if active():
                kept[:] = [first_tensor(args, kwargs)]

        def change(_: Any, args: Any, output: Any) -> Any:
            if not active():
                return None
            changed = module(tensor_of(output), kept.pop())
            return (changed, *output[1:]) if isinstance(output, tuple) else changed

        before = sublayer.entry.register_forward_pre_hook(keep, with_kwargs=True)
        return [before, sublayer.exit.register_forward_hook(change)]

    return connect


class InsertedTuned(Tuned):
    """A frozen base with named sets of inserted modules, of which one is in use."""

    merges = False

    def __init__(self, model: Any, settings: Any, build: Build, head: tuple[str, ...] = ()):
        """Raises UserError where the model cannot be read."""
        from torch import nn

        self.architecture = read_architecture(model)
        model.requires_grad_(False)
        model.add_module(CONTAINER, nn.ModuleDict())
        self.model, self.settings, self.build, self.head = model, settings, build, head
        self.enabled, self.active = True, ""
        self.first_block = 0
        """Blocks below it compute without their modules (AdapterDrop)."""
        self.base_sha256: str | None = None
        """What the folder that was loaded says of its base."""
        self._handles: dict[str, Handles] = {}
        self._heads: dict[str, dict[str, torch.Tensor]] = {}

    def insert(self, name: str, modules: Modules) -> None:
        """Put modules into the base under a name; they are in use once it is activated."""
        from torch import nn

        assert name not in self._handles, f"{name} is inserted already"
        held = nn.ModuleDict({key: inserted.module for key, inserted in modules.items()})
        getattr(self.model, CONTAINER)[name] = held.to(self.model.device)
        self._handles[name] = [
            handle
            for inserted in modules.values()
            if inserted.connect
            for handle in inserted.connect(inserted.module, self._in_use(name, inserted.block))
        ]

    def _in_use(self, name: str, block: int | None) -> "Active":
        return lambda: self.enabled and self.active == name and (block is None or block >= self.first_block)

    def remove(self, name: str) -> None:
        """Take the modules of this name out again."""
        for handle in self._handles.pop(name):
            handle.remove()
        del getattr(self.model, CONTAINER)[name]
        self._heads.pop(name, None)
        if self.active == name:
            self.active = ""

    def activate(self, name: str) -> None:
        """Compute with the modules (and the task head) of this name from now on.

        Raises:
            UserError: there are none of this name.
        """
        if name not in self._handles:
            known = ", ".join(sorted(self._handles))
            raise UserError(f"no adapter is called {name}", name, f"add it first; there are: {known}")
        if self.head and self.active:
            self._heads[self.active] = self._head_tensors()
        if name in self._heads:
            self._load_head(self._heads[name], name)
        self.active = name

    def add(self, name: str, folder: Path) -> None:
        """Insert what another training of the same method saved, under a name of its own.

        Raises:
            UserError: it was made by another method, or on another base, or does not fit.
        """

        saved = read_method(folder)
        if saved.method.kind != self.settings.kind:
            what = f"the adapter was made by method {saved.method.kind}, this one by {self.settings.kind}"
            raise UserError(what, str(folder), "load it by itself")
        if self.base_sha256 not in (None, saved.base_sha256):
            fix = "add adapters of one base only"
            raise UserError("the adapter was trained on another base", str(folder), fix)
        self.insert(name, self.build(self.architecture, saved.method, folder))
        try:
            self._heads[name] = self._load(name, folder)
        except UserError:
            self.remove(name)
            raise

    def train(self) -> None:
        """Let the modules in use and the task head train, and nothing else."""
        self.modules().requires_grad_(True)
        for name in self.head:
            self.model.get_submodule(name).requires_grad_(True)

    def modules(self) -> Any:
        """The inserted modules in use, a ModuleDict."""
        return getattr(self.model, CONTAINER)[self.active]

    def save(self, folder: Path, reference: str) -> None:
        """Write the modules in use and the task head, and nothing of the base."""
        from safetensors.torch import save_file

        tensors = {f"{CONTAINER}.{name}": tensor for name, tensor in self.modules().state_dict().items()}
        tensors |= self._head_tensors()
        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        save_file(plain, folder / WEIGHTS, metadata=self.metadata())

    def metadata(self) -> dict[str, str]:
        """What `build` must know of a folder besides the settings; stands in the head of the safetensors file."""
        return {}

    def _head_tensors(self) -> "dict[str, torch.Tensor]":
        return {
            f"{head}.{name}": tensor.detach().clone()
            for head in self.head
            for name, tensor in self.model.get_submodule(head).state_dict().items()
        }

    def _load(self, name: str, folder: Path) -> "dict[str, torch.Tensor]":
        """Fill the modules of this name; return what else the file has: the task head's tensors.

        Raises:
            UserError: tensors are missing, left over or of another shape: half an adapter would do half of its work.
        """

        tensors = read_tensors(folder / WEIGHTS)
        own = {
            key.removeprefix(f"{CONTAINER}."): t for key, t in tensors.items() if key.startswith(CONTAINER)
        }
        wanted = getattr(self.model, CONTAINER)[name].state_dict()
        require_same({k: t.shape for k, t in own.items()}, {k: t.shape for k, t in wanted.items()}, folder)
        getattr(self.model, CONTAINER)[name].load_state_dict(own)
        return {key: tensor for key, tensor in tensors.items() if not key.startswith(CONTAINER)}

    def begin(self) -> Self:
        """Insert new modules, ready to train; torch is seeded before."""
        self.insert(TRAINED, self.build(self.architecture, self.settings, None))
        self.activate(TRAINED)
        self.train()
        return self

    def load(self, folder: Path) -> Self:
        """Insert what a folder holds, ready to use.

        Raises:
            UserError: the file does not fit the model.
        """

        if (folder / METHOD_FILE).is_file():
            self.base_sha256 = read_method(folder).base_sha256
        self.insert(TRAINED, self.build(self.architecture, self.settings, folder))
        head = self._load(TRAINED, folder)
        self.head = tuple(sorted({name.rpartition(".")[0] for name in head}))
        self._load_head(head, str(folder))
        self.activate(TRAINED)
        self.model.requires_grad_(False)
        return self

    def _load_head(self, tensors: "dict[str, torch.Tensor]", where: str) -> None:
        import torch

        known = dict(self.model.state_dict())
        wrong = [name for name, t in tensors.items() if name not in known or known[name].shape != t.shape]
        if wrong:
            what = f"the adapter does not fit its base: the model has no task head like {sorted(wrong)[0]}"
            raise UserError(what, where, "load it for the task it was trained for")
        with torch.no_grad():
            for name, tensor in tensors.items():
                known[name].copy_(tensor)

    @contextlib.contextmanager
    def disabled(self) -> Iterator[None]:
        """The base as it was: no inserted module is called."""
        before, self.enabled = self.enabled, False
        try:
            yield
        finally:
            self.enabled = before


def require_same(own: Mapping[str, Any], wanted: Mapping[str, Any], folder: Path) -> None:
    """Refuse tensors (name -> shape) that are not just those wanted: half an adapter would do half of its work."""
    if own == wanted:
        return
    different = sorted(set(own) ^ set(wanted) or {name for name in own if own[name] != wanted[name]})
    where = "only one of them has" if set(own) != set(wanted) else "they disagree on the shape of"
    raise UserError(
        f"the adapter does not fit its base: {where} {different[0]}",
        str(folder),
        "load it on the base it was trained on, named in method.json, with the settings there",
    )
