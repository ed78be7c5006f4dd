"""Forward passes of documents of like length, side by side.

Padded documents need it anyway: beside one of a thousand tokens, hundreds of short ones would take hundreds of times the
memory. Packed ones are unpacked for it on a CPU: a packed row of T tokens computes attention between all its documents and
then masks it, and torch's CPU attention has no kernel that leaves that out (on a GPU packing wins). The label tokens of the
step, and so its gradient, are the same.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

SHORTEST = 0.9
"""A document may be so much shorter than the longest beside it; the rest is padding."""
FEWEST_POSITIONS = 1024
"""...unless the rows together have fewer positions: matrix products that small waste more than padding does."""


def group_by_length(
    lengths: Sequence[int], positions: int, fewest: int = FEWEST_POSITIONS
) -> Iterator[list[int]]:
    """Indices of documents that share a forward pass, longest first; every index once.

    A group has at most `positions` positions, padding included, unless it is one document.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    at = 0
    while at < len(order):
        longest, end = lengths[order[at]], at + 1
        while end < len(order) and (end + 1 - at) * longest <= positions:
            if lengths[order[end]] < SHORTEST * longest and (end - at) * longest >= fewest:
                break
            end += 1
        yield order[at:end]
        at = end


def split_padded(batch: "dict[str, torch.Tensor]", positions: int) -> "Iterator[dict[str, torch.Tensor]]":
    """Cut a padded batch into groups of its rows. Labels are (B,) or (B, T), everything else (B, T)."""
    lengths = batch["attention_mask"].sum(dim=1).tolist()
    for rows in group_by_length(lengths, positions):
        longest = lengths[rows[0]]
        yield {
            name: tensor[rows, :longest] if tensor.dim() == 2 else tensor[rows]
            for name, tensor in batch.items()
        }


def split_packed(batches: "Sequence[dict[str, torch.Tensor]]", positions: int) -> "Iterator[dict[str, Any]]":
    """Cut packed input_ids, labels and position_ids, each (B, T), into right-padded rows of one document.

    Yields input_ids and labels, each (documents, longest); attention is causal, so padding on the right needs no mask.
    """
    import torch

    from tasks.data.labels import IGNORED

    ids, labels, place = (
        torch.cat([batch[name].flatten() for batch in batches])
        for name in ("input_ids", "labels", "position_ids")
    )
    starts = torch.nonzero(place == 0).flatten().tolist()  # a row begins with position 0
    documents = [
        (start, stop)
        for start, stop in zip(starts, [*starts[1:], len(ids)], strict=True)
        if bool((labels[start:stop] != IGNORED).any())  # padding is a document without labels
    ]
    for group in group_by_length([stop - start for start, stop in documents], positions):
        longest = max(documents[i][1] - documents[i][0] for i in group)
        rows = {
            name: torch.full((len(group), longest), fill, dtype=ids.dtype)
            for name, fill in (("input_ids", 0), ("labels", IGNORED))
        }
        for row, (start, stop) in enumerate(documents[i] for i in group):
            rows["input_ids"][row, : stop - start] = ids[start:stop]
            rows["labels"][row, : stop - start] = labels[start:stop]
        yield rows
