"""Bottleneck adapters: small networks inside the residual branches of a frozen model.

- adapter: Parameter-Efficient Transfer Learning for NLP (Houlsby et al., 2019, https://arxiv.org/abs/1902.00751).
  One after attention, one after the feed-forward network, each directly after the projection back to the model's
  width and before the residual addition (figure 2); the blocks' normalisation layers train too.
- adapter_pfeiffer: AdapterFusion (Pfeiffer et al., 2021, https://arxiv.org/abs/2005.00247), section 3: only the one
  after the feed-forward network. Theirs, made for BERT, stands behind an extra use of the layer's own norm; here it
  stands where Houlsby's second one does, which every architecture has.
- adapter_parallel: Towards a Unified View (He et al., 2022, https://arxiv.org/abs/2110.04366), "scaled parallel
  adapter": beside the feed-forward network, from its input.

Deviation: a dropout that the base has behind a sublayer (BERT) comes after the adapter, not before it.
"""

from pathlib import Path
from typing import Any

from schemas.spec.methods.adapters import Adapter, AdapterParallel, Bottleneck
from tasks.training.methods.base import TrainingContext, Tuned
from tasks.training.methods.parts.insertion import Inserted, InsertedTuned, Modules, behind
from tasks.training.methods.parts.structure import Architecture, Sublayer


def build(architecture: Architecture, settings: Bottleneck, folder: Path | None = None) -> Modules:
    """New adapters of the kind that the settings name."""
    from tasks.training.methods.parts import bottleneck

    size = bottleneck.size_of(settings, architecture.width)
    shape = (architecture.width, size, settings.activation, settings.dropout)
    trains_norms = isinstance(settings, Adapter) and settings.train_norms
    modules: dict[str, Inserted] = {}
    for number, block in enumerate(architecture.blocks):
        if isinstance(settings, Adapter):
            place = behind(block.attention)
            modules[f"block_{number}_attention"] = Inserted(bottleneck.Bottleneck(*shape), place, number)
        module = (
            bottleneck.Parallel(*shape, settings.scale)
            if isinstance(settings, AdapterParallel)
            else bottleneck.Bottleneck(*shape)
        )
        modules[f"block_{number}_feed_forward"] = Inserted(module, behind(block.feed_forward), number)
        for index, norm in enumerate(block.norms if trains_norms else ()):
            place = behind(Sublayer(norm, norm))
            modules[f"block_{number}_norm_{index}"] = Inserted(bottleneck.OwnNorm(norm), place, number)
    return modules


def attach(model: Any, settings: Bottleneck, context: TrainingContext) -> Tuned:
    """Insert adapters that change nothing yet, and train them; on request a set for each task (task_adapters.py).

    Raises:
        UserError: the model is not made of blocks with attention and a feed-forward network.
    """
    if settings.has_task_modules:
        from tasks.training.methods.parts.task_adapters import TaskAdaptersTuned

        return TaskAdaptersTuned(model, settings, build, context.head).begin_tasks(context.tasks)
    return InsertedTuned(model, settings, build, context.head).begin()


def load(model: Any, folder: Path, settings: Bottleneck) -> Tuned:
    """Insert saved adapters.

    Raises:
        UserError: they do not fit the model.
    """
    if settings.has_task_modules:
        from tasks.training.methods.parts.task_adapters import TaskAdaptersTuned

        return TaskAdaptersTuned(model, settings, build).load(folder)
    return InsertedTuned(model, settings, build).load(folder)
