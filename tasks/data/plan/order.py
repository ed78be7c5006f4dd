"""Order the sequences of a run so that every step has its share of replay: a random order of bounded prefix sums.

The order is Steinitz's: a sequence with more replay than its share is followed by one with less, drawn at random. So the
excess of any stretch of training, whatever the steps, stays below the label tokens of one sequence.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tasks.data.plan.mix import Pieces

Epoch = tuple[Pieces, npt.NDArray[np.int64]]
"""The pieces of one pass over the domain, sequence after sequence, and how many each sequence holds."""
LOOK_AHEAD = 32
"""Sequences of either kind among which the last of a step is chosen."""


def order_sequences(
    epochs: Sequence[Epoch], is_domain: npt.NDArray[np.bool_], per_step: int, seed: int
) -> tuple[Pieces, npt.NDArray[np.int64]]:
    """Pieces of all passes in training order, and the offsets of the sequences among them, (sequences + 1,).

    Each pass keeps its sequences. `is_domain` tells it of each source.
    """
    pieces_in_order, counts_in_order = [], []
    slot = 0
    for number, (pieces, counts) in enumerate(epochs):
        excess = replay_excess(pieces, counts, is_domain)
        order = balance(excess, slot, per_step, np.random.default_rng([seed, number, 3]))
        slot += len(order)
        starts = np.cumsum(counts) - counts
        chosen = counts[order]
        within = np.arange(len(pieces)) - np.repeat(np.cumsum(chosen) - chosen, chosen)
        pieces_in_order.append(pieces[np.repeat(starts[order], chosen) + within])
        counts_in_order.append(chosen)
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(counts_in_order))]).astype(np.int64)
    return np.concatenate(pieces_in_order), offsets


def replay_excess(
    pieces: Pieces, counts: npt.NDArray[np.int64], is_domain: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """Replay label tokens of each sequence beyond the share of its pass, (sequences,); they add up to nothing."""
    labels = pieces["length"].astype(np.int64) - pieces["context"]
    starts = np.cumsum(counts) - counts
    every = np.add.reduceat(labels, starts)
    replay = np.add.reduceat(np.where(is_domain[pieces["source"]], 0, labels), starts)
    share = replay.sum() / max(every.sum(), 1)  # a pass may be empty
    excess: npt.NDArray[np.float64] = replay - every * share
    return excess


def balance(
    excess: npt.NDArray[np.float64], slot: int, per_step: int, random: np.random.Generator
) -> npt.NDArray[np.int64]:
    """A random order whose prefix sums stay between the least and the greatest excess: (sequences,).

    `slot` is the number of sequences before this pass. The last sequence of a step is the one, of the next few, that
    brings the sum nearest to nothing.
    """
    shuffled = random.permutation(len(excess))
    above, below = (shuffled[side].tolist() for side in (excess[shuffled] > 0, excess[shuffled] <= 0))
    values, order, total = excess.tolist(), np.empty(len(excess), np.int64), 0.0
    heads = [0, 0]
    for place in range(len(excess)):
        rest = (above, below)
        left = [side for side in (0, 1) if heads[side] < len(rest[side])]
        if total == 0 and len(left) == 2:
            side = int(random.random() * len(excess) >= len(above))
        else:
            side = left[0] if len(left) == 1 else int(total > 0)
        if per_step > 1 and (slot + place + 1) % per_step == 0:
            nearest = [
                (abs(total + values[rest[s][at]]), s, at)
                for s in left
                for at in range(heads[s], min(heads[s] + LOOK_AHEAD, len(rest[s])))
            ]
            _, side, at = min(nearest)
            chosen = rest[side]
            chosen[heads[side]], chosen[at] = chosen[at], chosen[heads[side]]
        order[place] = rest[side][heads[side]]
        total += values[int(order[place])]
        heads[side] += 1
    return order
