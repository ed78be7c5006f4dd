"""What every tuning method offers, whether PEFT does the work or we do."""

import abc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    Tensors = dict[str, torch.Tensor]


TRAINED = "default"
"""Name of what a training makes and a folder holds, among several on one base."""


@dataclass(frozen=True)
class TrainingContext:
    """What a method may look at when it is attached."""

    tokenizer: Path
    """Folder with tokenizer.json."""
    steps: int
    """Optimizer steps of the whole run."""
    seed: int
    batches: Callable[[], Iterator[dict[str, "torch.Tensor"]]]
    """The run's own micro-batches from the first on, on the CPU; each call begins again."""
    head: tuple[str, ...] = ()
    """Names of the modules that are new with the task: they train whatever the method (empty for language modelling)."""
    sequence_length: int = 0
    """Longest text, in tokens, that training shows the model; 0 where nobody knows."""
    tasks: tuple[str, ...] = ()
    """Names of the tasks that are trained together; empty if there is one."""

    def require_one_task(self, why: str) -> None:
        """Refuse several tasks where the method reads the model's own loss, a softmax over the outputs of all tasks.

        Raises:
            UserError: there are several.
        """
        if self.tasks:
            from schemas.errors import UserError

            fix = "choose another method (rootstock methods), or train the tasks one by one"
            raise UserError(f"several tasks cannot be trained with it: {why}", "method.kind", fix)


class Tuned(abc.ABC):
    """A method attached to a model."""

    model: Any
    """Call it, train it and generate with it as with the base; what trains requires a gradient, nothing else does."""
    merges: bool = True
    """Whether `merge` can make plain weights of it, at no cost to who calls the model."""
    dequantizes: bool = False
    """Whether `dequantized` can make plain weights of it: it does not merge, because its base would not stay 4-bit."""

    tasks: tuple[str, ...] = ()
    """Tasks that have modules of their own: `use_task` chooses them before a forward pass."""

    def use_task(self, name: str) -> None:
        """Compute with this task's own modules from now on; only where `tasks`."""
        raise NotImplementedError(f"{type(self).__name__} has no modules of a task's own")

    @abc.abstractmethod
    def save(self, folder: Path, reference: str) -> None:
        """Write what is deployed: what differs from the base, as safetensors. `reference` is what the base is found by."""

    @abc.abstractmethod
    def disabled(self) -> AbstractContextManager[None]:
        """Within it the model computes exactly what the base does."""

    def merge(self) -> Any:
        """Return a plain model of the base's architecture that computes the same; only where `merges`."""
        raise NotImplementedError(f"{type(self).__name__} does not merge")

    def add(self, name: str, folder: Path) -> None:
        """Load what another training of the same method on the same base saved, under a name; not of whole models."""
        raise NotImplementedError(f"{type(self).__name__} shares no weights with another")

    def activate(self, name: str) -> None:
        """Compute with what has this name from now on: TRAINED, or what `add` was given; not of whole models."""
        raise NotImplementedError(f"{type(self).__name__} shares no weights with another")

    def dequantized(self, folder: Path) -> Any:
        """Return a plain float32 model that computes the same as what is saved in `folder`; only where `dequantizes`."""
        raise NotImplementedError(f"{type(self).__name__} has no quantised base")

    def callbacks(self) -> list[Any]:
        """transformers.TrainerCallback objects that the method needs in every training."""
        return []

    def penalty(self) -> "torch.Tensor | None":
        """What is added to the loss of each optimizer step (a scalar), or None."""
        return None

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]] | None:
        """Parameters with learning rates of their own, or None for one rate for all."""
        return None

    def finish(self) -> None:
        """Called once after the last step: what is deployed is the model as it stands afterwards."""

    def facts(self) -> dict[str, Any]:
        """What only this method can tell of a finished training (ranks, gates, masks), as plain values."""
        return {}

    def state(self) -> "Tensors":
        """What a checkpoint keeps. Training resumed from it goes on to the same bits."""
        return {name: p.detach() for name, p in self.model.named_parameters() if p.requires_grad}

    def load_state(self, tensors: "Tensors") -> None:
        """Take up `state()` of an earlier process."""
        import torch

        own = dict(self.model.named_parameters())
        with torch.no_grad():
            for name, tensor in tensors.items():
                own[name].copy_(tensor)


@dataclass(frozen=True)
class MethodEntry:
    """A row of the registry: how to attach and load a method, and what people should know about it."""

    settings: type[Any]
    """Its settings class in schemas/spec/methods/union.py, which also says what it can be combined with."""
    attach: Callable[[Any, Any, TrainingContext], Tuned]
    """(base model, settings, context) -> the method attached, ready to train."""
    load: Callable[[Any, Path, Any], Tuned]
    """(base model, folder, settings) -> the method as it was saved, ready to use."""
    paper: str
    trains: str
    stores: str
    refuses: str
    base_settings: Callable[[Any], dict[str, Any]] | None = None
    """Further arguments of from_pretrained for the base (quantisation)."""
    try_on: Callable[[Any, Any, TrainingContext], object] | None = None
    """Refuses what `attach` refuses, where that computes long (singular values, gradients); by default `attach` does."""
