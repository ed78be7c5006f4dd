"""Laid out by length, a packed batch has the same label tokens and the same loss."""

import pytest
import torch

from tasks.training.by_length import FEWEST_POSITIONS, SHORTEST, split_by_length
from tasks.training.dataset import IGNORED, collate
from tasks.training.models import load_model
from tests.training.test_dataset import LENGTH, LENGTHS, PACKS, documents, pack


def batch_of(lengths: list[int], packs: list[list[int]], length: int = LENGTH) -> dict[str, torch.Tensor]:
    dataset = pack(documents(6, lengths), packs, length)
    return collate([dataset[k] for k in range(len(packs))])


def test_every_document_is_one_row_whole_and_padding_is_none():
    batch = batch_of(LENGTHS, PACKS)
    parts = list(split_by_length(batch))
    rows = [row[row != IGNORED].tolist() for part in parts for row in part["labels"]]
    wanted = documents(6, LENGTHS)
    assert sorted(rows) == sorted(wanted.document(d)[1:].tolist() for d in range(len(LENGTHS)))
    assert sum(int((part["labels"] != IGNORED).sum()) for part in parts) == int(
        (batch["labels"] != IGNORED).sum()
    )
    for part in parts:
        for ids, labels in zip(part["input_ids"], part["labels"], strict=True):
            assert torch.equal(ids[1:][labels[1:] != IGNORED], labels[labels != IGNORED])


def test_rows_side_by_side_are_of_like_length_unless_they_are_few():
    lengths = [*range(200, 0, -2), *[250] * 5]
    parts = list(split_by_length(batch_of([n + 1 for n in lengths], [[d] for d in range(len(lengths))], 256)))
    assert len(parts) > 3
    for part in parts[:-1]:
        used = (part["labels"] != IGNORED).sum(dim=1) + 1
        assert used[0] == part["labels"].shape[1] == used.max()
        assert used.min() >= SHORTEST * used.max() or (len(used) - 1) * used.max() < FEWEST_POSITIONS


def test_the_summed_loss_is_that_of_the_packed_batch(base):
    model = load_model(base).train()
    batch = batch_of(LENGTHS, PACKS)
    count = (batch["labels"] != IGNORED).sum()
    packed = model(**batch, use_cache=False, num_items_in_batch=count).loss
    parts = [model(**part, use_cache=False, num_items_in_batch=count).loss for part in split_by_length(batch)]
    assert float(sum(parts)) == pytest.approx(float(packed), rel=1e-6)
