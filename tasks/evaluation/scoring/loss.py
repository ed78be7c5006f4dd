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
    """A piece of a document: `length` tokens from `start`, of which all but the first `context` are labels."""

    document: int
    start: int
    length: int
    context: int = 1


def score_documents(
    model: "PreTrainedModel",
    documents: Sequence[npt.NDArray[np.integer]],
    max_length: int,
    batch_tokens: int,
    device: "str | torch.device",
    on_progress: Progress | None = None,
    contexts: Sequence[int] | None = None,
) -> npt.NDArray[np.float64]:
    """Return the summed negative log-likelihood of each document, in nats, shape (documents,).

    A document of n ids has n - 1 label tokens: its first id is context. One longer than max_length is cut into
    windows that overlap by one token. `contexts` says of how many first ids each is context (its prompt); such a
    document must not be longer than max_length. A batch is at most batch_tokens positions, padding included (or one window).
    The model, already on `device`, scores in its own dtype; the log-softmax is float32, the sums float64.
    on_progress(done, total) counts label tokens.

    Raises:
        TrainingFailed: the model gives a loss that is not a number (its weights are broken).
        ValueError: max_length below 2, or a document with a prompt is longer.
    """
    import torch

    if max_length < 2:
        raise ValueError(f"max_length must be at least 2 (one token of context, one label), got {max_length}")
    windows = cut_windows([len(ids) for ids in documents], max_length, contexts)
    total = sum(window.length - window.context for window in windows)
    nats = np.zeros(len(documents), dtype=np.float64)
    was_training = model.training
    model.train(False)
    done = 0
    try:
        with torch.inference_mode():
            for batch in _batches(windows, batch_tokens):
                losses = _score_batch(model, documents, batch, device)
                np.add.at(nats, [window.document for window in batch], losses)
                done += sum(window.length - window.context for window in batch)
                if on_progress is not None:
                    on_progress(done, total)
    finally:
        model.train(was_training)
    _require_finite(nats)
    return nats


def cut_windows(
    lengths: Sequence[int], max_length: int, contexts: Sequence[int] | None = None
) -> list[Window]:
    """Cut documents of these lengths so that each id but a document's first is a label of exactly one window.

    Raises:
        ValueError: a document with a prompt would be cut: its later windows would lack the prompt.
    """
    windows = []
    for document, length in enumerate(lengths):
        context = 1 if contexts is None else contexts[document]
        if context > 1 and length > max_length:
            raise ValueError(f"a prompt and its response have {length} tokens, more than {max_length}")
        windows += [
            Window(document, start, min(max_length, length - start), context)
            for start in range(0, length - 1, max_length - 1)
        ]
    return windows


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
    counted = np.zeros((len(batch), width), dtype=np.bool_)  # (B, T)
    for row, window in enumerate(batch):
        input_ids[row, : window.length] = documents[window.document][
            window.start : window.start + window.length
        ]
        mask[row, : window.length] = 1
        counted[row, window.context : window.length] = True
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
    is_label = torch.from_numpy(counted[:, 1:]).to(device)
    return losses.double().where(is_label, 0.0).sum(dim=1).cpu().numpy()


def _require_finite(nats: npt.NDArray[np.float64]) -> None:
    broken = int(np.count_nonzero(~np.isfinite(nats)))
    if broken:
        raise TrainingFailed(
            f"the model's loss is not a finite number on {broken} of {len(nats)} documents",
            "scoring",
            "the weights are broken: lower training.learning_rate, or check the base model's files",
        )
