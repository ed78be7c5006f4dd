"""The ids of the pieces of text that a tokenizer has encoded so far."""

from itertools import chain, repeat
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.data.tokens.fast.vocabulary import bytes_by_id

Ids = npt.NDArray[np.unsignedinteger[Any]]
Positions = npt.NDArray[np.int64]

LONGEST_PIECE = 48  # bytes; longer ones (links, tables) rarely come again
MOST_PIECES = 1_000_000
WORDS_PER_TEXT = 1000

# How a piece begins that is a space and a word: such pieces can stand in a row without a change in their ids.
_SPACED_WORD = frozenset(bytes([0x20, byte]) for byte in range(0x21, 0xF5) if byte < 0x7F or byte > 0xE3)


class Memory:
    """Looks ids up; pieces that are new are learnt from the tokenizer, many in one call."""

    def __init__(self, tokenizer: Any, dtype: type[np.unsignedinteger[Any]]):
        self._tokenizer, self._dtype = tokenizer, dtype
        self._bytes_by_id = bytes_by_id(tokenizer)
        self._forget()

    def _forget(self) -> None:
        self._slots: dict[bytes, int] = {}
        self._ids: Ids = np.zeros(0, self._dtype)
        self._starts = np.zeros(1, np.int64)  # (slots + 1,): slot s has ids[starts[s] : starts[s + 1]]

    def gather(self, unique: list[bytes], indices: npt.NDArray[np.int32]) -> tuple[bytes, Positions]:
        """Ids of the pieces `unique[indices]` in a row, and the byte where each piece's begin, the end added."""
        import pyarrow as pa

        slots = self._learn(unique)[indices]
        size = self._ids.itemsize
        buffers = [None, pa.py_buffer(self._starts * size), pa.py_buffer(self._ids)]
        known = pa.Array.from_buffers(pa.large_binary(), len(self._starts) - 1, buffers)
        taken = known.take(pa.array(slots))  # in C++: one copy a piece
        _, bounds, ids = taken.buffers()
        return (ids.to_pybytes() if ids else b""), np.frombuffer(bounds, np.int64)[: len(slots) + 1]

    def _learn(self, unique: list[bytes]) -> Positions:
        """Slot of each piece; those not seen before are encoded."""
        if len(self._starts) > MOST_PIECES:
            self._forget()
        known = self._slots
        slots = np.fromiter(map(known.get, unique, repeat(-1)), np.int64, len(unique))
        missing = np.flatnonzero(slots < 0).tolist()
        words = [number for number in missing if unique[number][:2] in _SPACED_WORD]
        others = [number for number in missing if unique[number][:2] not in _SPACED_WORD]
        new = [unique[number] for number in others + words]
        groups = [new[at : at + WORDS_PER_TEXT] for at in range(len(others), len(new), WORDS_PER_TEXT)]
        learnt = [self._encode_each(new[: len(others)]), *map(self._encode_joined, groups)]
        ids, lengths = (np.concatenate(arrays) for arrays in zip(*learnt, strict=True))
        first = len(self._starts) - 1
        slots[others + words] = np.arange(first, first + len(new))
        known.update(zip(new, range(first, first + len(new)), strict=True))
        for piece in [piece for piece in new if len(piece) > LONGEST_PIECE]:
            del known[piece]
        self._ids = np.concatenate([self._ids, ids])
        self._starts = np.concatenate([self._starts, self._starts[-1] + np.cumsum(lengths)])
        return slots

    def _encode_each(self, pieces: list[bytes]) -> tuple[Ids, Positions]:
        texts = [piece.decode() for piece in pieces]
        encodings = [e.ids for e in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
        ids = np.fromiter(chain.from_iterable(encodings), self._dtype)
        return ids, np.fromiter(map(len, encodings), np.int64, len(encodings))

    def _encode_joined(self, words: list[bytes]) -> tuple[Ids, Positions]:
        """Encode words as one text, four times as fast: the bytes of its tokens tell where the ids of each end.

        One by one where they do not, because tokens do not spell this text byte by byte.
        """
        encoding = self._tokenizer.encode_batch_fast([b"".join(words).decode()], add_special_tokens=False)[0]
        ids = np.array(encoding.ids, self._dtype)
        token_ends = np.cumsum(self._bytes_by_id[ids])
        word_ends = np.cumsum(np.fromiter(map(len, words), np.int64, len(words)))
        last = np.searchsorted(token_ends, word_ends)
        if len(ids) != last[-1] + 1 or (token_ends[last] != word_ends).any():
            return self._encode_each(words)
        return ids, np.diff(last, prepend=-1)
