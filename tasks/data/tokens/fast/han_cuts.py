"""Cut runs of Han characters where no token of the vocabulary reaches across, so that no merge does.

Chinese has no spaces: a clause seldom comes again, but the characters and words it is made of do. A byte-pair tokenizer
joins two neighbours only into a token that holds both; where there is no such token, the two sides are encoded alone.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SLOTS = 2**22  # pairs that share a slot with a glued pair are not cut: slower, never wrong
_PUNCTUATION = "、。〈〉《》「」『』【】〔〕“”—…！（），．：；？"

# A byte-level token may begin or end inside a character: what it holds of one, by its number of bytes.
_TAIL = {1: 0x3F, 2: 0xFFF, 3: 0xFFFF}  # mask of the bits that the last bytes of a character tell
_HEAD = {1: 12, 2: 6, 3: 0}  # shift that leaves the bits that its first bytes tell


@dataclass(frozen=True)
class Glue:
    """Which neighbours some token holds in a row."""

    slots: npt.NDArray[np.bool_]  # (SLOTS,)
    kinds: tuple[tuple[int, int], ...]
    """(bytes of the left character, bytes of the right one) that occur in tokens."""


def _class_table() -> npt.NDArray[np.uint8]:
    """1 for Han (without those that normalisation changes), 2 for Chinese punctuation: (65536,)."""
    table = np.zeros(2**16, np.uint8)
    table[0x3400:0x4DC0] = table[0x4E00:0xA000] = 1
    table[[ord(character) for character in _PUNCTUATION]] = 2
    return table


_CLASS = _class_table()


def cut_han(
    data: npt.NDArray[np.uint8], at: npt.NDArray[np.int64], marks: npt.NDArray[np.bool_], glue: Glue
) -> None:
    """Set `marks` between Han characters, and between one and punctuation, that no token holds in a row.

    `at` has the first bytes of the characters of three bytes from U+2000 on.
    """
    codes = (
        ((data[at] & 0x0F).astype(np.int64) << 12)
        | ((data[at + 1] & 0x3F).astype(np.int64) << 6)
        | (data[at + 2] & 0x3F)
    )
    kind = _CLASS[codes]
    # two punctuation marks in a row stay together: patterns look at the run
    pairs = np.flatnonzero((kind[:-1] * kind[1:] & 3 != 0) & (at[1:] == at[:-1] + 3))
    left, right = codes[pairs], codes[pairs + 1]
    apart = np.ones(len(pairs), bool)
    for tail, head in glue.kinds:
        apart &= ~glue.slots[_slot(left, right, tail, head)]
    marks[at[pairs[apart] + 1]] = True


def _slot(
    left: npt.NDArray[np.int64], right: npt.NDArray[np.int64], tail: int, head: int
) -> npt.NDArray[np.int64]:
    known = ((left & _TAIL[tail]) << 20) | ((right >> _HEAD[head]) << 4) | (tail << 2) | head
    return (known * 0x9E3779B1 >> 11) & (SLOTS - 1)


def find_glue(tokens: list[bytes]) -> Glue:
    """Look through a vocabulary, given as the bytes that its tokens stand for."""
    found: dict[tuple[int, int], tuple[list[int], list[int]]] = {}
    for token in tokens:
        if len(token) < 2 or token.isascii():
            continue
        for at in range(1, len(token)):
            if token[at] < 0xE2 or token[at] > 0xEF:
                continue
            tail, head = _tail(token[max(0, at - 3) : at]), token[at : at + 3]
            if tail:
                lefts, rights = found.setdefault((len(tail), len(head)), ([], []))
                lefts.append(_bits(tail))
                rights.append((head[0] & 0x0F) << 12 | _bits(head[1:]) << 6 * (3 - len(head)))
    slots = np.zeros(SLOTS, bool)
    for (tail_bytes, head_bytes), (lefts, rights) in found.items():
        slots[_slot(np.array(lefts), np.array(rights), tail_bytes, head_bytes)] = True
    return Glue(slots, tuple(sorted(found)))


def _tail(before: bytes) -> bytes:
    """The last bytes of a character of three bytes in front of another; none if something else is there."""
    following = len(before) - len(before.rstrip(bytes(range(0x80, 0xC0))))
    if following >= 2 and len(before) == 3:
        return before if 0xE2 <= before[0] <= 0xEF else b""
    return before[-following:] if following and following == len(before) else b""


def _bits(continuation: bytes) -> int:
    bits = 0
    for byte in continuation:
        bits = bits << 6 | byte & (0x0F if byte >= 0xE0 else 0x3F)
    return bits
