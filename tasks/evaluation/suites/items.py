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
    """For a head: the label, or the tag of each word. For a prompt whose answer is generated: the right answer."""
    words: npt.NDArray[np.int32] | None = None
    """For tagged words: see TokenPart.words."""
    context: int = 1
    """First ids that are no labels: of an instruction its prompt, of a text the first."""
    is_instruction: bool = False

    @property
    def labels(self) -> int:
        """Label tokens."""
        return len(self.input_ids) - self.context


@dataclass(frozen=True)
class Suite:
    """Documents that are scored together."""

    name: str
    kind: Literal["domain", "general"]
    items: tuple[Item, ...]
    key: str
    """Hash of what chose the documents."""
    no_room: int = 0
    """Instructions that are not scored, because their prompts leave no room for a response."""
    part: tuple[int, int] | None = None
    """(n, of): the n-th of so many parts that runs of its name take in turn; None: whole."""
    task: str | None = None
    """Whose outputs answer; None if there is one task."""

    @property
    def is_answered(self) -> bool:
        """Whether responses are generated and their final answers compared."""
        return self.items[0].is_instruction and bool(self.items[0].gold)
