"""On a CPU, documents of like length side by side cost less than packed ones: nothing has to be masked.

A packed row of T tokens computes attention between all its documents and then masks it; torch's CPU attention has no kernel
that leaves that out (on a GPU packing wins). The label tokens of the step, and so its gradient, are the same.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

SHORTEST = 0.9
"""A document may be so much shorter than the longest beside it; the rest is padding."""
FEWEST_POSITIONS = 512
"""...unless the rows together have fewer positions: matrix products that small waste more than padding does."""


def split_by_length(batch: "dict[str, torch.Tensor]") -> "Iterator[dict[str, Any]]":
    """Cut packed input_ids, labels and position_ids, each (B, T), into right-padded rows of one document, longest first.

    Yields input_ids and labels, each (documents, longest); attention is causal, so padding on the right needs no mask.
    """
    import torch

    from tasks.training.dataset import IGNORED

    ids, labels = batch["input_ids"].flatten(), batch["labels"].flatten()  # a row begins with position 0
    starts = torch.nonzero(batch["position_ids"].flatten() == 0).flatten().tolist()
    documents = [
        (stop - start, start)
        for start, stop in zip(starts, [*starts[1:], len(ids)], strict=True)
        if bool((labels[start:stop] != IGNORED).any())  # padding is a document without labels
    ]
    documents.sort(key=lambda found: (-found[0], found[1]))
    at = 0
    while at < len(documents):
        longest, end = documents[at][0], at + 1
        while end < len(documents) and (
            documents[end][0] >= SHORTEST * longest or (end - at) * longest < FEWEST_POSITIONS
        ):
            end += 1
        rows = {
            name: torch.full((end - at, longest), fill, dtype=ids.dtype)
            for name, fill in (("input_ids", 0), ("labels", IGNORED))
        }
        for row, (length, start) in enumerate(documents[at:end]):
            rows["input_ids"][row, :length] = ids[start : start + length]
            rows["labels"][row, :length] = labels[start : start + length]
        yield rows
        at = end
