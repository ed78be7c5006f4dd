"""Find the rows that occur earlier, and the rows that occur in an evaluation set, by digest.

A digest is 16 bytes (xxh3-128 of the text with white space and Unicode composition normalised). Rows are handled in
ranges of digests so that memory stays bounded however many rows there are.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

ROWS_PER_PASS = 8_000_000  # 24 bytes each: about 200 MB

Digests = npt.NDArray[np.uint64]  # (rows, 2)


def read_digests(part: Path, column_name: str = "digest") -> Digests:
    """Digest column of a parquet part as two unsigned words a row: (rows, 2)."""
    import pyarrow.parquet as pq

    column = pq.read_table(part, columns=[column_name]).column(column_name).combine_chunks()
    if len(column) == 0:
        return np.zeros((0, 2), np.uint64)
    words = np.frombuffer(column.buffers()[1], np.uint64)
    start = column.offset * 2
    return words[start : start + len(column) * 2].reshape(-1, 2)


def read_asked(part: Path) -> Digests:
    """Digest of what a row asks, (rows, 2): of instructions the prompt with its context, of other rows the whole text.

    Two answers to one question are no duplicates. But the question of a scored row, trained on with another answer, has
    leaked.
    """
    import pyarrow.parquet as pq

    return read_digests(part, "asked" if "asked" in pq.read_schema(part).names else "digest")


def first_occurrences(parts: Sequence[Path], num_rows: int) -> list[npt.NDArray[np.bool_]]:
    """For each part, which rows are the first with their digest, in the order of the parts."""
    masks: list[npt.NDArray[np.bool_]] = []
    flat = np.zeros(num_rows, bool)
    for words, positions in _passes(parts, num_rows):
        order = np.lexsort((words[:, 1], words[:, 0]))  # stable: equal digests stay in reading order
        sorted_words = words[order]
        fresh = np.ones(len(order), bool)
        fresh[1:] = (sorted_words[1:] != sorted_words[:-1]).any(axis=1)
        flat[positions[order[fresh]]] = True
    start = 0
    for part in parts:
        rows = len(read_digests(part))
        masks.append(flat[start : start + rows])
        start += rows
    return masks


def _passes(parts: Sequence[Path], num_rows: int) -> Iterator[tuple[Digests, npt.NDArray[np.int64]]]:
    """Yield (digests, row positions) for one range of digests after another."""
    passes = max(1, -(-num_rows // ROWS_PER_PASS))
    for this in range(passes):
        words, positions, start = [], [], 0
        for part in parts:
            all_words = read_digests(part)
            chosen = np.flatnonzero(all_words[:, 0] % passes == this)
            words.append(all_words[chosen])
            positions.append(chosen + start)
            start += len(all_words)
        if words:
            yield np.concatenate(words), np.concatenate(positions)


def sort_digests(parts: Sequence[Path]) -> npt.NDArray[np.void]:
    """All digests of what the parts ask, sorted, one 16-byte value each (evaluation sets are small)."""
    return as_known([read_asked(part) for part in parts])


def as_known(digests: Sequence[Digests]) -> npt.NDArray[np.void]:
    """Digests, sorted, for `occur_in`."""
    return np.unique(_as_records(np.concatenate(digests))) if digests else np.zeros(0, "V16")


def occur_in(part: Path, known: npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
    """Which rows of a part ask what is in `known` (from sort_digests): looked up, so that many parts cost no sort each."""
    words = read_asked(part)
    found = np.zeros(len(words), bool)
    if not len(known):
        return found
    high, low = known["high"], known["low"]
    at = np.searchsorted(high, words[:, 0])
    rows = np.arange(len(words))
    while len(rows):  # once, but where known digests share their first half
        rows = rows[at[rows] < len(known)]
        rows = rows[high[at[rows]] == words[rows, 0]]
        same = low[at[rows]] == words[rows, 1]
        found[rows[same]] = True
        rows = rows[~same]
        at[rows] += 1
    return found


def _as_records(words: Digests) -> npt.NDArray[np.void]:
    """One sortable value a digest: numpy has no 128-bit integer, but orders records field by field."""
    return np.ascontiguousarray(words).view([("high", np.uint64), ("low", np.uint64)]).reshape(-1)
