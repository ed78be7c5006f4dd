"""Laid out by length, a packed batch has the same label tokens and the same loss."""

import pytest
import torch

from tasks.training.batches.by_length import group_by_length, split_packed
from tasks.training.batches.packed import IGNORED, collate
from tasks.training.models.load import load_model
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


def cost(groups: list[list[int]], lengths: list[int], overhead: int) -> int:
    return sum(overhead + len(group) * max(lengths[i] for i in group) for group in groups)


@pytest.mark.parametrize("overhead", [0, 5, 40, 1000])
def test_no_other_cut_is_cheaper(overhead):
    """Against every way to cut seven documents in order of length."""
    lengths = [30, 7, 29, 12, 3, 11, 30]
    order = sorted(range(7), key=lambda i: -lengths[i])
    ways = []
    for mask in range(2**6):
        groups = [[order[0]]]
        for place, index in enumerate(order[1:]):
            if mask >> place & 1:
                groups.append([])
            groups[-1].append(index)
        if all(len(group) * max(lengths[i] for i in group) <= 90 or len(group) == 1 for group in groups):
            ways.append(cost(groups, lengths, overhead))
    found = group_by_length(lengths, 90, overhead)
    assert sorted(i for group in found for i in group) == list(range(7))
    assert cost(found, lengths, overhead) == min(ways)


def test_a_group_holds_no_more_positions_than_a_forward_pass_may():
    lengths = [7, 90, 3, 40, 40, 1, 12]
    groups = group_by_length(lengths, 84)
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
