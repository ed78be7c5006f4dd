"""Read the plan's sequences as batches: pure functions of the plan, no state to restore."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tasks.data.mix import Pieces
from tasks.data.tokenize import TokenPart

IGNORED = -100  # label of a position that is not trained


class PackedSequences(torch.utils.data.Dataset[dict[str, npt.NDArray[np.int64]]]):
    """Sequence k of the plan as input_ids, labels and position_ids, each (sequence_length,)."""

    def __init__(
        self,
        pieces: Pieces,
        sequences: npt.NDArray[np.int64],
        sources: Sequence[Sequence[TokenPart]],
        length: int,
        pad: int,
    ):
        self.pieces, self.sequences, self.sources = pieces, sequences, sources
        self.length, self.pad = length, pad

    def __len__(self) -> int:
        return len(self.sequences) - 1

    def __getitem__(self, index: int) -> dict[str, npt.NDArray[np.int64]]:
        input_ids = np.full(self.length, self.pad, np.int64)
        labels = np.full(self.length, IGNORED, np.int64)
        position_ids = np.zeros(self.length, np.int64)
        at = 0
        for source, part, start, length in self.pieces[
            self.sequences[index] : self.sequences[index + 1]
        ].tolist():
            ids = self.sources[source][part].tokens[start : start + length]
            input_ids[at : at + length] = ids
            labels[at + 1 : at + length] = ids[
                1:
            ]  # the model predicts position i from i - 1: the first is context
            position_ids[at : at + length] = np.arange(length)
            at += length
        position_ids[at:] = np.arange(
            self.length - at
        )  # padding is a document of its own: nobody attends to it
        return {"input_ids": input_ids, "labels": labels, "position_ids": position_ids}


def collate(rows: Sequence[dict[str, npt.NDArray[np.int64]]]) -> dict[str, Any]:
    """Stack sequences to (B, T). Without an attention mask, documents are told apart by their position_ids."""
    return {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]}
