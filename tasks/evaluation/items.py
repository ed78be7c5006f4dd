"""What is scored: documents, and the suites they make up."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

OnProgress = Callable[[int, int], None]
BATCH_TOKENS = 8192


@dataclass(frozen=True)
class Item:
    """One document to score."""

    id: str
    group: str
    bytes: int
    input_ids: npt.NDArray[Any]  # (tokens + 1,)
    gold: tuple[str, ...] = ()
    """For a head: the label, or the tag of each word."""
    words: npt.NDArray[np.int32] | None = None
    """For tagged words: see TokenPart.words."""


@dataclass(frozen=True)
class Suite:
    """Documents that are scored together."""

    name: str
    kind: Literal["domain", "general"]
    items: tuple[Item, ...]
    key: str
    """Hash of what chose the documents."""
    task: str | None = None
    """Whose outputs answer; None if there is one task."""
