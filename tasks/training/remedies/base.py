"""What every remedy against forgetting offers: three hooks (data, penalty, finish), and what a checkpoint keeps of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from tasks.data.plan.mix import Pieces
from tasks.storage.steps import Step

if TYPE_CHECKING:
    import torch

    from schemas.spec.run import RunSpec
    from tasks.training.inputs import TrainingInputs
    from tasks.training.methods.base import Tuned

    Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class RemedyContext:
    """What a remedy may look at."""

    root: Path
    """State folder, for steps of its own."""
    spec: "RunSpec"
    inputs: "TrainingInputs"

    def ids_of(self, pieces: Pieces) -> list[npt.NDArray[Any]]:
        """Token ids of some pieces, each (length,)."""
        sources = self.inputs.sources
        return [
            sources[source][part].tokens[start : start + length]
            for source, part, start, length in pieces[["source", "part", "start", "length"]].tolist()
        ]


@dataclass(frozen=True)
class Outputs:
    """One forward pass in training, as the remedies see it."""

    logits: "torch.Tensor"
    """(B, T, V), of the text's own positions; of a head for whole texts (B, labels)."""
    labels: "torch.Tensor"
    """(B, T); -100 where nothing is to be predicted. Of a head for whole texts (B,)."""
    places: "torch.Tensor"
    """(B, T): number of each position among all of the plan's pieces laid end to end; -1 for padding. Of heads, where each
    row is one document: (B,), the number of its first position."""
    num_items: "torch.Tensor"
    """Label tokens (of heads: labels) of the whole optimizer step."""
    input_ids: "torch.Tensor | None" = None
    """(B, T)."""


class Remedy:
    """A remedy at work in one training. Each part does nothing unless it is overridden."""

    def penalty(self) -> "torch.Tensor | None":
        """What is added to the loss of each optimizer step (a scalar), or None."""
        return None

    def weights(self, places: "torch.Tensor") -> "torch.Tensor | None":
        """Factor of the loss of each position, in the shape of `places`, or None."""
        return None

    def loss(self, outputs: Outputs) -> "torch.Tensor | None":
        """What is added to the loss of this forward pass, already divided by `outputs.num_items`, or None."""
        return None

    def own_parameters(self) -> "list[torch.nn.Parameter]":
        """Parameters of its own, on the device of the training: the optimizer trains them along with the model's, at the
        training's learning rate. They are not deployed, and `state` must hold them."""
        return []

    def see_loss(self, share: "torch.Tensor") -> None:
        """Look at the loss of each forward pass in training: its share of the step's mean loss in nats per label token,
        before weights and penalties."""

    def callbacks(self) -> list[Any]:
        """transformers.TrainerCallback objects that it needs."""
        return []

    def finish(self) -> None:
        """Called once after the last step, before the method's own end: the model may be changed for the last time."""

    def save(self, folder: Path) -> None:
        """Write beside the model what a later training may take up, in a folder of its own in `folder`."""

    def facts(self) -> dict[str, Any]:
        """What it can tell of a finished training, as plain values."""
        return {}

    def state(self) -> "Tensors":
        """What a checkpoint keeps. Training resumed from it goes on to the same bits."""
        return {}

    def load_state(self, tensors: "Tensors") -> None:
        """Take up `state()` of an earlier process."""


@dataclass(frozen=True)
class RemedyEntry:
    """A row of the registry: how a remedy is prepared and attached, and what people should know about it."""

    settings: type[Any]
    """Its settings class in schemas/spec/remedies.py, which also says what it can be combined with."""
    attach: Callable[["Tuned", Any, RemedyContext, Step | None], Remedy]
    """(method on the base before its first step, settings, context, what was prepared) -> the remedy at work."""
    paper: str
    does: str
    needs: str
    costs: str
    refuses: str
    experimental: str
    """What was measured in place of a gain beyond training less (benchmarks/results/remedies.md); empty if one was shown."""
    prepare: Callable[[Any, RemedyContext], Step | None] | None = None
    """(settings, context) -> a step that is done before the method is attached, or is there already; None: not needed."""
    reads: Callable[[Any, Path], Mapping[str, str]] | None = None
    """(settings, base) -> files that it reads besides what every training is named by: name -> sha256."""
