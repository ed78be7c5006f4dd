"""How far a domain lies from general text, measured on a base before anything is trained.

Two measures per general suite: the base's loss on domain text minus that on the suite, and the Jensen-Shannon divergence of
their tokens (Lin, 1991, https://doi.org/10.1109/18.61115).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tasks.evaluation.items import Item

Ids = Sequence[int] | npt.NDArray[np.integer]

SAMPLE_TOKENS = 20_000
"""Domain tokens that are scored at most: the shift needs a mean, not every document."""


@dataclass(frozen=True)
class Shift:
    """What was measured between a domain and one general suite."""

    loss_gap: float
    """Nats per token; below 0 where the base finds the domain easier than the suite."""
    divergence: float
    """Nats: 0 for equal shares of every token, ln 2 for no token in common."""


def measure_shift(
    domain: Sequence[Item],
    domain_nats: npt.NDArray[np.floating],
    general: Sequence[Item],
    general_nats: npt.NDArray[np.floating],
    vocab_size: int,
) -> Shift:
    """The shift from the base's summed loss of each document, shapes (domain,) and (general,).

    Raises:
        ValueError: no label token on one side.
    """
    gap = loss_per_token(domain, domain_nats) - loss_per_token(general, general_nats)
    divergence = unigram_divergence(
        [item.input_ids[item.context :] for item in domain],
        [item.input_ids[item.context :] for item in general],
        vocab_size,
    )
    return Shift(gap, divergence)


def loss_per_token(items: Sequence[Item], nats: npt.NDArray[np.floating]) -> float:
    """Summed loss of all documents over all their label tokens, in nats per token.

    Raises:
        ValueError: there is no label token.
    """
    tokens = sum(item.labels for item in items)
    if not tokens:
        raise ValueError("no document has a label token")
    return float(np.sum(nats) / tokens)


def unigram_divergence(first: Sequence[Ids], second: Sequence[Ids], vocab_size: int) -> float:
    """Jensen-Shannon divergence of the token shares of two sets of documents, in nats: 0 to ln 2.

    JS(p, q) = H((p + q) / 2) - (H(p) + H(q)) / 2 of the observed shares. Samples of one text differ by chance, so a few
    thousand tokens do not reach 0.

    Raises:
        ValueError: one side has no token.
    """
    from scipy.spatial.distance import jensenshannon

    shares = []
    for documents in (first, second):
        ids = (
            np.concatenate([np.asarray(one, np.int64) for one in documents])
            if documents
            else np.zeros(0, np.int64)
        )
        if not len(ids):
            raise ValueError("there is no token to count")
        shares.append(np.bincount(ids, minlength=vocab_size) / len(ids))
    return float(jensenshannon(*shares) ** 2)
