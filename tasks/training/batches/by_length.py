"""Forward passes of documents of like length, side by side.

Padded documents need it anyway: beside one of a thousand tokens, hundreds of short ones would take hundreds of times the
memory. Packed ones are unpacked for it on a CPU: a packed row of T tokens computes attention between all its documents and
then masks it, and torch's CPU attention has no kernel that leaves that out (on a GPU packing wins). The label tokens of the
step, and so its gradient, are the same.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

OVERHEAD = 200
"""What a pass costs on a CPU beside its positions, in positions: padding is cheaper than another pass up to there.
About what stories260K takes; a larger model takes fewer, and then a pass may hold up to so many positions of padding."""


def group_by_length(lengths: Sequence[int], positions: int, overhead: int = OVERHEAD) -> list[list[int]]:
    """Indices of documents that share a forward pass, longest first: the cheapest way to cut them, every index once.

    A pass of n documents costs n * longest + overhead. It has at most `positions` positions, padding included, unless it
    is one document.
    """
    order = np.argsort(-np.asarray(lengths), kind="stable")
    cost = np.full(len(order) + 1, np.inf)  # of the first n documents
    begin = np.zeros(len(order) + 1, int)  # where the pass with the n-th document begins
    cost[0] = 0
    for first, index in enumerate(order):
        longest = lengths[index]
        most = min(max(1, positions // longest), len(order) - first)
        ends = slice(first + 1, first + 1 + most)
        with_pass = cost[first] + overhead + longest * np.arange(1, most + 1)
        better = with_pass < cost[ends]
        cost[ends][better], begin[ends][better] = with_pass[better], first
    groups, end = [], len(order)
    while end:
        groups.append(order[begin[end] : end].tolist())
        end = int(begin[end])
    return groups[::-1]


def split_padded(
    batch: "dict[str, torch.Tensor]", positions: int, overhead: int = OVERHEAD
) -> "Iterator[dict[str, torch.Tensor]]":
    """Cut a padded batch into groups of its rows. Labels are (B,) or (B, T), places (B,), everything else (B, T)."""
    lengths = batch["attention_mask"].sum(dim=1).tolist()
    for rows in group_by_length(lengths, positions, overhead):
        longest = lengths[rows[0]]
        yield {
            name: tensor[rows, :longest] if tensor.dim() == 2 else tensor[rows]
            for name, tensor in batch.items()
        }


def split_packed(batches: "Sequence[dict[str, torch.Tensor]]", positions: int) -> "Iterator[dict[str, Any]]":
    """Cut packed input_ids, labels and position_ids, each (B, T), into right-padded rows of one document.

    Yields input_ids and labels (and places, if they are there), each (documents, longest); attention is causal, so
    padding on the right needs no mask.
    """
    import torch

    from tasks.data.labels.labels import IGNORED
    from tasks.training.batches.packed import NOWHERE

    kept: dict[str, torch.Tensor] = {
        name: torch.cat([batch[name].flatten() for batch in batches])
        for name in ("input_ids", "labels", "position_ids", "places")
        if name in batches[0]
    }
    ids, labels = kept["input_ids"], kept["labels"]
    starts = torch.nonzero(kept.pop("position_ids") == 0).flatten().tolist()  # a row begins with position 0
    documents = [
        (start, stop)
        for start, stop in zip(starts, [*starts[1:], len(ids)], strict=True)
        if bool((labels[start:stop] != IGNORED).any())  # padding is a document without labels
    ]
    for group in group_by_length([stop - start for start, stop in documents], positions):
        longest = documents[group[0]][1] - documents[group[0]][0]
        fills = {"input_ids": 0, "labels": IGNORED, "places": NOWHERE}
        rows = {name: torch.full((len(group), longest), fills[name], dtype=ids.dtype) for name in kept}
        for row, (start, stop) in enumerate(documents[i] for i in group):
            for name, tensor in kept.items():
                rows[name][row, : stop - start] = tensor[start:stop]
        yield rows
