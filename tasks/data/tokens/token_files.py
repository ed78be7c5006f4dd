"""The token files of a source: ids of all rows, mapped into memory."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.storage.steps import MADE_OF, Step


@dataclass(frozen=True)
class TokenPart:
    """Tokens of one parquet part: row i has ids tokens[offsets[i]:offsets[i + 1]]."""

    tokens: npt.NDArray[Any]  # (total,) uint16 or uint32, memory-mapped
    offsets: npt.NDArray[np.int64]  # (rows + 1,)
    words: npt.NDArray[np.int32] | None = None
    """(total,) for tagged words: the word whose first id this is, NO_WORD at every other id."""
    contexts: npt.NDArray[np.int32] | None = None
    """(rows,) for instructions: ids of the prompt, which are context and no labels. Of other rows it is the first id."""

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Label tokens of each row, (rows,)."""
        ids: npt.NDArray[np.int64] = np.diff(self.offsets)
        return ids - 1 if self.contexts is None else ids - self.contexts

    def context(self, row: int) -> int:
        """Ids of a row that are context only."""
        return 1 if self.contexts is None else int(self.contexts[row])

    def document(self, row: int) -> npt.NDArray[Any]:
        return self.tokens[self.offsets[row] : self.offsets[row + 1]]

    def words_of(self, row: int) -> npt.NDArray[np.int32]:
        """Of tagged words: the word whose first id each id of the row is."""
        assert self.words is not None
        return self.words[self.offsets[row] : self.offsets[row + 1]]


def token_file(step: Step, part: int, kind: str, suffix: str = "npy") -> Path:
    """A file of a tokenised source: `kind` (tokens, offsets, words, contexts) of one of its parts."""
    place, number = step.facts["parts"][part]
    return step.folder.parent / str(step.facts[MADE_OF][place]) / f"{kind}-{number:05d}.{suffix}"


def open_tokens(step: Step, num_parts: int, vocab_size: int) -> list[TokenPart]:
    """Map the token files of a tokenised source into memory."""
    dtype = np.uint16 if vocab_size <= 2**16 else np.uint32
    opened = []
    for number in range(num_parts):
        offsets = np.load(token_file(step, number, "offsets"))
        file = token_file(step, number, "tokens", "bin")
        tokens = np.memmap(file, dtype, "r") if offsets[-1] else np.zeros(0, dtype)
        beside = token_file(step, number, "words")
        words = np.load(beside, mmap_mode="r") if beside.is_file() else None
        beside = token_file(step, number, "contexts")
        contexts = np.load(beside) if beside.is_file() else None
        opened.append(TokenPart(tokens, offsets, words, contexts))
    return opened
