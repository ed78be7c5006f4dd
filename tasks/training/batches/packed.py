"""Read the plan's sequences as batches: pure functions of the plan, no state to restore."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tasks.data.labels.labels import IGNORED as IGNORED
from tasks.data.plan.mix import Pieces, offsets_of
from tasks.data.tokens.token_files import TokenPart

Document = tuple[npt.NDArray[Any], int]
"""Ids of a piece of a document, (length,); how many of the first are context and no labels."""
NOWHERE = -1
"""The place of padding in the plan."""


class PackedSequences(torch.utils.data.Dataset[dict[str, npt.NDArray[np.int64]]]):
    """Sequence k of the plan as input_ids, labels and position_ids, each (sequence_length,).

    `numbered`: also `places`, the number of each position among all pieces of the plan laid end to end.
    """

    def __init__(
        self,
        pieces: Pieces,
        sequences: npt.NDArray[np.int64],
        sources: Sequence[Sequence[TokenPart]],
        length: int,
        pad: int,
        numbered: bool = False,
    ):
        self.pieces, self.sequences, self.sources = pieces, sequences, sources
        self.length, self.pad = length, pad
        self.offsets = offsets_of(pieces) if numbered else None

    def __len__(self) -> int:
        return len(self.sequences) - 1

    def documents(self, index: int) -> list[Document]:
        """The pieces of documents that share sequence `index`."""
        return [
            (self.sources[source][part].tokens[start : start + length], context)
            for source, part, start, length, context in self.pieces[
                self.sequences[index] : self.sequences[index + 1]
            ].tolist()
        ]

    def __getitem__(self, index: int) -> dict[str, npt.NDArray[np.int64]]:
        input_ids = np.full(self.length, self.pad, np.int64)
        labels = np.full(self.length, IGNORED, np.int64)
        position_ids = np.zeros(self.length, np.int64)
        at = 0
        for ids, context in self.documents(index):
            length = len(ids)
            input_ids[at : at + length] = ids
            # the model predicts position i from i - 1: the first is context, and so is a prompt
            labels[at + context : at + length] = ids[context:]
            position_ids[at : at + length] = np.arange(length)
            at += length
        position_ids[at:] = np.arange(
            self.length - at
        )  # padding is a document of its own: nobody attends to it
        row = {"input_ids": input_ids, "labels": labels, "position_ids": position_ids}
        if self.offsets is not None:
            first, last = self.offsets[self.sequences[index]], self.offsets[self.sequences[index + 1]]
            row["places"] = np.full(self.length, NOWHERE, np.int64)
            row["places"][:at] = np.arange(first, last)
        return row


def collate(rows: Sequence[dict[str, npt.NDArray[np.int64]]]) -> dict[str, Any]:
    """Stack sequences to (B, T). Without an attention mask, documents are told apart by their position_ids."""
    return {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]}


class SeparateDocuments(PackedSequences):
    """The same plan for methods that packed documents would disturb: every piece a padded row of its own.

    A batch has the same label tokens as when packed, so plan, mixture and steps stay what they are.
    """

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = {"documents": self.documents(index), "pad": self.pad}
        if self.offsets is not None:
            row["starts"] = self.offsets[self.sequences[index] : self.sequences[index + 1]]
        return row


def collate_apart(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Pad the pieces of all sequences on the right to input_ids, labels and attention_mask, each (pieces, longest)."""
    documents = [document for row in rows for document in row["documents"]]
    shape = (len(documents), max(len(ids) for ids, _ in documents))
    input_ids = np.full(shape, rows[0]["pad"], np.int64)
    labels = np.full(shape, IGNORED, np.int64)
    attention_mask = np.zeros(shape, np.int64)
    for row, (ids, context) in enumerate(documents):
        input_ids[row, : len(ids)] = ids
        labels[row, context : len(ids)] = ids[context:]
        attention_mask[row, : len(ids)] = 1
    arrays = {"input_ids": input_ids, "labels": labels, "attention_mask": attention_mask}
    if "starts" in rows[0]:
        starts = np.concatenate([row["starts"] for row in rows])
        places = starts[:, None] + np.arange(shape[1])
        arrays["places"] = np.where(attention_mask == 1, places, NOWHERE)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}
