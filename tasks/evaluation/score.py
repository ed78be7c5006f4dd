"""Summed loss of each document under a model: every label token scored exactly once."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from schemas.errors import TrainingFailed

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

Progress = Callable[[int, int], None]

ROWS_AT_ONCE = 1024
"""Positions whose logits are widened to float32 together: with 150,000 tokens of vocabulary, 0.6 GB."""


@dataclass(frozen=True)
class Window:
    """A piece of a document: `length` tokens from `start`, of which all but the first are labels."""

    document: int
    start: int
    length: int


def score_documents(
    model: "PreTrainedModel",
    documents: Sequence[npt.NDArray[np.integer]],
    max_length: int,
    batch_tokens: int,
    device: "str | torch.device",
    on_progress: Progress | None = None,
) -> npt.NDArray[np.float64]:
    """Return the summed negative log-likelihood of each document, in nats, shape (documents,).

    A document of n ids has n - 1 label tokens: its first id is context. One longer than max_length is cut into
    windows that overlap by one token. A batch is at most batch_tokens positions, padding included (or one window).
    The model, already on `device`, scores in its own dtype; the log-softmax is float32, the sums float64.
    on_progress(done, total) counts label tokens.

    Raises:
        TrainingFailed: the model gives a loss that is not a number (its weights are broken).
        ValueError: max_length below 2.
    """
    import torch

    if max_length < 2:
        raise ValueError(f"max_length must be at least 2 (one token of context, one label), got {max_length}")
    windows = cut_windows([len(ids) for ids in documents], max_length)
    total = sum(window.length - 1 for window in windows)
    nats = np.zeros(len(documents), dtype=np.float64)
    was_training = model.training
    model.train(False)
    done = 0
    try:
        with torch.inference_mode():
            for batch in _batches(windows, batch_tokens):
                losses = _score_batch(model, documents, batch, device)
                np.add.at(nats, [window.document for window in batch], losses)
                done += sum(window.length - 1 for window in batch)
                if on_progress is not None:
                    on_progress(done, total)
    finally:
        model.train(was_training)
    _require_finite(nats)
    return nats


def cut_windows(lengths: Sequence[int], max_length: int) -> list[Window]:
    """Cut documents of these lengths so that each id but a document's first is a label of exactly one window."""
    return [
        Window(document, start, min(max_length, length - start))
        for document, length in enumerate(lengths)
        for start in range(0, length - 1, max_length - 1)
    ]


def _batches(windows: Sequence[Window], batch_tokens: int) -> Iterator[list[Window]]:
    """Longest first: little padding, and a batch that does not fit in memory shows at once."""
    ordered = sorted(windows, key=lambda window: (-window.length, window.document, window.start))
    start = 0
    while start < len(ordered):
        rows = max(1, batch_tokens // ordered[start].length)
        yield ordered[start : start + rows]
        start += rows


def _score_batch(
    model: "PreTrainedModel",
    documents: Sequence[npt.NDArray[np.integer]],
    batch: Sequence[Window],
    device: "str | torch.device",
) -> npt.NDArray[np.float64]:
    """Return the summed loss of each window, shape (B,).

    Padding is on the right, where causal attention cannot see it from a real token; the mask says so all the same.
    """
    import torch
    from torch.nn.functional import cross_entropy

    width = batch[0].length
    input_ids = np.zeros((len(batch), width), dtype=np.int64)  # (B, T)
    mask = np.zeros((len(batch), width), dtype=np.int64)  # (B, T)
    for row, window in enumerate(batch):
        input_ids[row, : window.length] = documents[window.document][
            window.start : window.start + window.length
        ]
        mask[row, : window.length] = 1
    ids = torch.from_numpy(input_ids).to(device)
    attention_mask = torch.from_numpy(mask).to(device)
    logits = model(input_ids=ids, attention_mask=attention_mask, use_cache=False).logits  # (B, T, V)
    # Methods that prepend virtual tokens return their logits too: the text's own are the last T.
    logits = logits[:, -width:][:, :-1].flatten(0, 1)  # (B (T-1), V), a view where the layout allows
    labels = ids[:, 1:].flatten()
    losses = torch.cat(
        [
            cross_entropy(part.float(), wanted, reduction="none")
            for part, wanted in zip(
                torch.split(logits, ROWS_AT_ONCE), torch.split(labels, ROWS_AT_ONCE), strict=True
            )
        ]
    ).view(len(batch), width - 1)
    return losses.double().where(attention_mask[:, 1:].bool(), 0.0).sum(dim=1).cpu().numpy()


def _require_finite(nats: npt.NDArray[np.float64]) -> None:
    broken = int(np.count_nonzero(~np.isfinite(nats)))
    if broken:
        raise TrainingFailed(
            f"the model's loss is not a finite number on {broken} of {len(nats)} documents",
            "scoring",
            "the weights are broken: lower training.learning_rate, or check the base model's files",
        )
