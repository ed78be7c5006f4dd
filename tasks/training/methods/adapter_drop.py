"""AdapterDrop: On the Efficiency of Adapters in Transformers (Rücklé et al., 2021, https://arxiv.org/abs/2010.11918).

Pfeiffer's adapters, and the lowest blocks learn to do without theirs: nothing is computed there, and in training no
gradient goes below the lowest adapter. Robust training (section 3) draws n from 0 to L - 1 for each step, so that any
number of blocks can be dropped later; specialized training leaves out the same blocks throughout.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from schemas.errors import UserError
from schemas.spec.methods.adapters import AdapterDrop
from tasks.training.methods import adapters
from tasks.training.methods.base import TRAINED, TrainingContext, Tuned
from tasks.training.methods.parts.insertion import InsertedTuned, Modules
from tasks.training.methods.parts.structure import Architecture
from tasks.training.models.tuned_files import read_method

_STREAM = 0xAD
"""Keeps these draws apart from others made of the same seed and step."""


def blocks_dropped(seed: int, step: int, num_blocks: int) -> int:
    """How many of the lowest blocks train without adapters in this step: 0 to num_blocks - 1, each as likely."""
    return int(np.random.default_rng([seed, _STREAM, step]).integers(num_blocks))


def build(architecture: Architecture, settings: AdapterDrop, folder: Path | None = None) -> Modules:
    """Adapters for every block that has one; what is drawn for a block does not depend on which others have.

    Raises:
        UserError: no block would keep its adapter.
    """
    count = len(architecture.blocks)
    if settings.drop_blocks >= count:
        fix = f"drop at most {count - 1}"
        raise UserError(f"all {count} blocks would lose their adapters", "method.drop_blocks", fix)
    everywhere = adapters.build(architecture, settings)
    if settings.training == "robust":
        return everywhere
    return {name: one for name, one in everywhere.items() if one.block is not None and one.block >= settings.drop_blocks}  # fmt: skip


class DroppingTuned(InsertedTuned):
    """Adapters of which the lowest are left out: by chance while training, as the settings say when used."""

    seed = 0
    dropped: Mapping[str, int] = MappingProxyType({})
    """Where there are several: name -> how many blocks go without it."""

    def add(self, name: str, folder: Path) -> None:
        """Insert another adapter, with the number of blocks that its own settings leave out."""

        super().add(name, folder)
        saved = read_method(folder).method
        assert isinstance(saved, AdapterDrop), "add refuses any other kind"
        self.dropped = {TRAINED: self.settings.drop_blocks, **self.dropped, name: saved.drop_blocks}

    def activate(self, name: str) -> None:
        """Compute with this adapter in the blocks that its settings leave it."""
        super().activate(name)
        self.first_block = self.dropped.get(name, self.first_block)

    def callbacks(self) -> list[Any]:
        """Draws how many blocks go without, before each optimizer step."""
        if self.settings.training != "robust":
            return []
        from transformers import TrainerCallback

        tuned = self

        class Draw(TrainerCallback):
            def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                count = len(tuned.architecture.blocks)
                tuned.first_block = blocks_dropped(tuned.seed, state.global_step, count)

        return [Draw()]

    def finish(self) -> None:
        """From now on the blocks that the settings name go without."""
        self.drop(self.settings.drop_blocks)

    def drop(self, num_blocks: int) -> None:
        """Leave out the adapters of the lowest blocks.

        Raises:
            UserError: there are not so many blocks, or those that trained without would get theirs back.
        """
        count = len(self.architecture.blocks)
        fewest = self.settings.drop_blocks if self.settings.training == "specialized" else 0
        if not fewest <= num_blocks <= count:
            fix = f"give {fewest} to {count}"
            raise UserError(f"{num_blocks} blocks cannot go without adapters", "drop_blocks", fix)
        self.first_block = num_blocks


def attach(model: Any, settings: AdapterDrop, context: TrainingContext) -> Tuned:
    """Insert adapters that change nothing yet, and train them.

    Raises:
        UserError: the model cannot be read, or no block would keep its adapter.
    """
    tuned = DroppingTuned(model, settings, build, context.head)
    tuned.seed = context.seed
    return tuned.begin()


def load(model: Any, folder: Path, settings: AdapterDrop) -> Tuned:
    """Insert saved adapters, without those that the settings leave out.

    Raises:
        UserError: they do not fit the model.
    """
    tuned = DroppingTuned(model, settings, build).load(folder)
    tuned.finish()
    return tuned
