"""Read the plan's documents with their labels as batches: pure functions of the plan, every document a row of its own."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tasks.data.labels import IGNORED
from tasks.data.mix import Pieces
from tasks.data.tokenize import SpecialIds, TokenPart

Labelled = tuple[npt.NDArray[Any], npt.NDArray[np.int32] | int]
"""Ids of a document, (length,); its label, or that of each id."""


class LabelledDocuments(torch.utils.data.Dataset[dict[str, Any]]):
    """Sequence k of the plan as the documents that share it."""

    def __init__(
        self,
        pieces: Pieces,
        sequences: npt.NDArray[np.int64],
        sources: Sequence[Sequence[TokenPart]],
        labels: Sequence[Sequence[npt.NDArray[np.int32]]],
        special: SpecialIds,
    ):
        self.pieces, self.sequences, self.sources = pieces, sequences, sources
        self.labels, self.special = labels, special

    def __len__(self) -> int:
        return len(self.sequences) - 1

    def __getitem__(self, index: int) -> dict[str, Any]:
        members = self.pieces[self.sequences[index] : self.sequences[index + 1]].tolist()
        return {"documents": [self._document(*piece) for piece in members], "pad": self.special.pad}

    def _document(self, source: int, part: int, start: int, length: int, _: int) -> Labelled:
        tokens, labels = self.sources[source][part], self.labels[source][part]
        row = int(np.searchsorted(tokens.offsets, start, side="right")) - 1
        whole = tokens.offsets[row + 1] - start
        ids = cut_off(tokens.tokens[start : start + whole], length, self.special.eos)
        if tokens.words is None:
            return ids, int(labels[row])
        of_ids = np.array(labels[start : start + length])
        if length < whole:
            of_ids[-1] = IGNORED
        return ids, of_ids


def cut_off(ids: npt.NDArray[Any], length: int, last: int) -> npt.NDArray[Any]:
    """The first `length` ids of a document; one that is cut still ends with its last token."""
    if len(ids) <= length:
        return ids
    cut = np.array(ids[:length])
    cut[-1] = last
    return cut


def collate_labelled(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Pad the documents of all sequences on the right: input_ids and attention_mask (B, T), labels (B,) or (B, T)."""
    return pad_documents([document for row in rows for document in row["documents"]], rows[0]["pad"])


def pad_documents(documents: Sequence[Labelled], pad: int) -> dict[str, Any]:
    """One batch of labelled documents; see `collate_labelled`."""
    shape = (len(documents), max(len(ids) for ids, _ in documents))
    input_ids = np.full(shape, pad, np.int64)
    attention_mask = np.zeros(shape, np.int64)
    of_rows = isinstance(documents[0][1], int)
    labels = np.full(shape[:1] if of_rows else shape, IGNORED, np.int64)
    for row, (ids, label) in enumerate(documents):
        input_ids[row, : len(ids)] = ids
        attention_mask[row, : len(ids)] = 1
        if of_rows:
            labels[row] = label
        else:
            labels[row, : len(ids)] = label
    arrays = {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}
