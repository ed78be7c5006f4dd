"""Laid out by length, a packed batch has the same label tokens and the same loss."""

import pytest
import torch

from tasks.training.by_length import FEWEST_POSITIONS, SHORTEST, group_by_length, split_packed
from tasks.training.dataset import IGNORED, collate
from tasks.training.models import load_model
from tests.training.test_dataset import LENGTH, LENGTHS, PACKS, documents, pack


def batch_of(lengths: list[int], packs: list[list[int]], length: int = LENGTH) -> dict[str, torch.Tensor]:
    dataset = pack(documents(6, lengths), packs, length)
    return collate([dataset[k] for k in range(len(packs))])


def test_every_document_is_one_row_whole_and_padding_is_none():
    batch = batch_of(LENGTHS, PACKS)
    parts = list(split_packed([batch], 64))
    assert len(parts) > 1
    assert all(part["input_ids"].numel() <= 64 or len(part["input_ids"]) == 1 for part in parts)
    rows = [row[row != IGNORED].tolist() for part in parts for row in part["labels"]]
    wanted = documents(6, LENGTHS)
    assert sorted(rows) == sorted(wanted.document(d)[1:].tolist() for d in range(len(LENGTHS)))
    assert sum(int((part["labels"] != IGNORED).sum()) for part in parts) == int(
        (batch["labels"] != IGNORED).sum()
    )
    for part in parts:
        for ids, labels in zip(part["input_ids"], part["labels"], strict=True):
            assert torch.equal(ids[1:][labels[1:] != IGNORED], labels[labels != IGNORED])


def test_documents_side_by_side_are_of_like_length_unless_they_are_few():
    lengths = [*range(200, 2, -2), *[250] * 5]
    groups = list(group_by_length(lengths, 10**6))
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    assert len(groups) > 3
    for group in groups[:-1]:
        used = [lengths[i] for i in group]
        assert used[0] == max(used)
        assert min(used) >= SHORTEST * max(used) or (len(used) - 1) * max(used) < FEWEST_POSITIONS


def test_a_group_holds_no_more_positions_than_a_forward_pass_may():
    lengths = [7, 90, 3, 40, 40, 1, 12]
    groups = list(group_by_length(lengths, 84))
    assert [[lengths[i] for i in group] for group in groups] == [[90], [40, 40], [12, 7, 3, 1]]


def test_the_summed_loss_is_that_of_the_packed_batch(base):
    model = load_model(base).train()
    batch = batch_of(LENGTHS, PACKS)
    count = (batch["labels"] != IGNORED).sum()
    packed = model(**batch, use_cache=False, num_items_in_batch=count).loss
    parts = [
        model(**part, use_cache=False, num_items_in_batch=count).loss for part in split_packed([batch], 64)
    ]
    assert float(sum(parts)) == pytest.approx(float(packed), rel=1e-6)
