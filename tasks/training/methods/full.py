"""Full fine-tuning: every parameter trains."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from schemas.methods import Full
from tasks.training.methods.base import TrainingContext, Tuned


class FullTuned(Tuned):
    """All weights of the model."""

    def __init__(self, model: Any):
        self.model = model

    def save(self, folder: Path, reference: str) -> None:
        """Write the whole model."""
        self.model.save_pretrained(folder)

    @contextlib.contextmanager
    def disabled(self) -> Iterator[None]:
        """Not to be had: the base's weights are gone."""
        raise NotImplementedError("full fine-tuning keeps no base to go back to: load the base itself")
        yield

    def merge(self) -> Any:
        """The model itself: nothing stands beside its weights."""
        return self.model


def attach(model: Any, settings: Full, context: TrainingContext) -> Tuned:
    """Train all weights of the model."""
    model.requires_grad_(True)
    return FullTuned(model)


def load(model: Any, folder: Path, settings: Full) -> Tuned:
    """The model in `folder` is the base's whole replacement."""
    return FullTuned(model)
