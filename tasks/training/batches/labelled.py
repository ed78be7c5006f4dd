"""Read the plan's documents with their labels as batches: pure functions of the plan, every document a row of its own."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tasks.data.labels.labels import IGNORED
from tasks.data.plan.mix import Pieces, offsets_of
from tasks.data.tokens.token_files import TokenPart
from tasks.data.tokens.tokenizer import SpecialIds

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
        of_words: bool = False,
        numbered: bool = False,
    ):
        """`of_words`: the model has outputs at every id; a whole text's label is then read at its last. `numbered`: rows say
        at which place of all pieces laid end to end each document begins."""
        self.pieces, self.sequences, self.sources = pieces, sequences, sources
        self.labels, self.special, self.of_words = labels, special, of_words
        self.offsets = offsets_of(pieces) if numbered else None

    def __len__(self) -> int:
        return len(self.sequences) - 1

    def __getitem__(self, index: int) -> dict[str, Any]:
        chosen = slice(self.sequences[index], self.sequences[index + 1])
        documents = [self._document(*piece) for piece in self.pieces[chosen].tolist()]
        numbered = {} if self.offsets is None else {"places": self.offsets[:-1][chosen]}
        return {"documents": documents, "pad": self.special.pad, **numbered}

    def _document(self, source: int, part: int, start: int, length: int, _: int) -> Labelled:
        tokens, labels = self.sources[source][part], self.labels[source][part]
        row = int(np.searchsorted(tokens.offsets, start, side="right")) - 1
        whole = tokens.offsets[row + 1] - start
        ids = cut_off(tokens.tokens[start : start + whole], length, self.special.eos)
        if tokens.words is None and self.of_words:
            at_last = np.full(len(ids), IGNORED, np.int32)
            at_last[-1] = labels[row]
            return ids, at_last
        if tokens.words is None:
            return ids, int(labels[row])
        of_ids = np.array(labels[start : start + length])
        if length < whole:
            of_ids[-1] = IGNORED
        return ids, of_ids

    def label_counts(self, num_outputs: int) -> npt.NDArray[np.int64]:
        """How often the plan trains each output, (num_outputs,)."""
        counts = np.zeros(num_outputs + 1, np.int64)  # the last is for what has no label
        pieces = self.pieces[np.lexsort((self.pieces["part"], self.pieces["source"]))]
        cuts = np.flatnonzero(np.diff(pieces["source"]) | np.diff(pieces["part"])) + 1
        for group in np.split(pieces, cuts):
            source, part = int(group["source"][0]), int(group["part"][0])
            tokens, starts = self.sources[source][part], group["start"].astype(np.int64)
            if tokens.words is None:
                at = np.searchsorted(tokens.offsets, starts, side="right") - 1
            else:
                # the last id of a document has no label, and one that is cut off loses it
                spans = group["length"].astype(np.int64) - 1
                ends = np.cumsum(spans)
                at = np.arange(ends[-1]) + np.repeat(starts - (ends - spans), spans)
            np.add.at(counts, np.maximum(self.labels[source][part][at], -1), 1)
        return counts[:-1]


def cut_off(ids: npt.NDArray[Any], length: int, last: int) -> npt.NDArray[Any]:
    """The first `length` ids of a document; one that is cut still ends with its last token."""
    if len(ids) <= length:
        return ids
    cut = np.array(ids[:length])
    cut[-1] = last
    return cut


def collate_labelled(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Pad the documents of all sequences on the right: input_ids and attention_mask (B, T), labels (B,) or (B, T); places
    (B,) if they are there."""
    batch = pad_documents([document for row in rows for document in row["documents"]], rows[0]["pad"])
    if "places" in rows[0]:
        batch["places"] = torch.from_numpy(np.concatenate([row["places"] for row in rows]))
    return batch


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
