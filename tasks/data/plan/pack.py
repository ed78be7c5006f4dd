"""Pack pieces of documents into sequences of a fixed length: best-fit decreasing (Johnson, 1974).

Ding et al., 2024 (https://arxiv.org/abs/2404.10830) use it for language models: pieces are never cut to fit, so a
document is cut only where it is longer than a sequence.
"""

from collections import deque

import numpy as np
import numpy.typing as npt

PIECES_PER_WINDOW = 1_000_000  # keeps memory flat; the loss in density is far below 0.1 %


def pack_best_fit(lengths: npt.NDArray[np.int64], capacity: int) -> list[list[int]]:
    """Put pieces into as few sequences as best-fit decreasing finds.

    Args:
        lengths: tokens of each piece, each at most `capacity`: (pieces,).
        capacity: tokens of a sequence.

    Returns:
        For each sequence, the indices of its pieces.
    """
    packs: list[list[int]] = []
    for start in range(0, len(lengths), PIECES_PER_WINDOW):
        window = lengths[start : start + PIECES_PER_WINDOW]
        packs += _pack_window(window, capacity, start)
    return packs


def _pack_window(lengths: npt.NDArray[np.int64], capacity: int, first: int) -> list[list[int]]:
    """Open sequences wait in a queue per free room; a bit set finds the smallest room that is large enough."""
    packs: list[list[int]] = []
    waiting: list[deque[int]] = [deque() for _ in range(capacity + 1)]
    rooms = 0  # bit r is set when a sequence with exactly r free tokens waits
    for index in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[index])
        fitting = rooms >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1
            pack = waiting[room].popleft()
            if not waiting[room]:
                rooms &= ~(1 << room)
            packs[pack].append(first + index)
        else:
            room, pack = capacity, len(packs)
            packs.append([first + index])
        left = room - length
        if left:
            waiting[left].append(pack)
            rooms |= 1 << left
    return packs
