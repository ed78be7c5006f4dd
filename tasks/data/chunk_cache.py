"""Encode text by remembering the ids of its pieces.

A byte-pair tokenizer that cuts text at spaces encodes a word the same wherever it stands, and most words of a corpus
have been seen before: looking them up is ten times faster than the merges. Whether that holds for a tokenizer is not
assumed: the ids of a sample of the very rows are compared with the tokenizer's own, and one difference switches the
memory off for the whole part.
"""

import json
import re
from collections.abc import Callable, Iterator
from itertools import chain, islice, pairwise, repeat
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.data.pieces import MARGIN, Positions, cut_pieces, han_glue

Encoder = Callable[[list[str]], list[bytes]]
Ids = npt.NDArray[np.unsignedinteger[Any]]

LONGEST_CHUNK = 48  # bytes; longer pieces (links, tables) rarely come again
MOST_CHUNKS = 1_000_000
WORDS_PER_TEXT = 1000
SAMPLE_BATCHES = 2
# how a piece begins that is a space and a word: such pieces can stand in a row without a change in their ids
_SPACED_WORD = frozenset(bytes([0x20, byte]) for byte in range(0x21, 0xF5) if byte < 0x7F or byte > 0xE3)
_BYTE_TOKEN = re.compile("<0x[0-9A-F]{2}>")


def make_encoder(
    tokenizer: Any, batches: Iterator[list[str]], dtype: type[np.unsignedinteger[Any]]
) -> Encoder:
    """Choose the memory of pieces if it proves equal on a sample of `batches`, else the tokenizer itself.

    The encoder maps texts to the bytes of their ids (little-endian `dtype`), without special tokens.
    """
    plain = plain_encoder(tokenizer, dtype)
    if tokenizer.normalizer is not None and type(tokenizer.normalizer).__name__ not in ("NFC", "Normalizer"):
        return plain
    cached = cached_encoder(tokenizer, dtype)
    for texts in islice(batches, SAMPLE_BATCHES):
        sample = texts[:: max(1, len(texts) // 200)]
        if cached(sample) != plain(sample):
            return plain
    return cached


def plain_encoder(tokenizer: Any, dtype: type[np.unsignedinteger[Any]]) -> Encoder:
    """Encode with the tokenizer's own batch call."""

    def encode(texts: list[str]) -> list[bytes]:
        encodings = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [np.array(encoding.ids, dtype).tobytes() for encoding in encodings]

    return encode


def cached_encoder(tokenizer: Any, dtype: type[np.unsignedinteger[Any]]) -> Encoder:
    """Encode piece by piece from memory: the texts of a batch are cut, looked up and put together as arrays."""
    import pyarrow as pa

    glue = han_glue(tokenizer)
    memory = _Memory(tokenizer, dtype)

    def encode(texts: list[str]) -> list[bytes]:
        joined = b"".join(encoded := [text.encode() for text in texts])
        if not joined:
            return [b""] * len(texts)
        data = np.frombuffer(bytes(MARGIN) + joined + bytes(MARGIN), np.uint8)
        ends = np.cumsum(np.fromiter(map(len, encoded), np.int64, len(texts))) + MARGIN
        starts = cut_pieces(data, ends, glue)
        offsets = np.append(starts, ends[-1])
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
        pieces = pa.Array.from_buffers(pa.large_binary(), len(starts), buffers).dictionary_encode()
        ids, id_ends = memory.gather(pieces.dictionary.to_pylist(), pieces.indices.to_numpy())
        bounds = id_ends[np.searchsorted(offsets, np.concatenate([[MARGIN], ends]))] * ids.itemsize
        raw = ids.tobytes()
        at = bounds.tolist()
        return [raw[start:stop] for start, stop in pairwise(at)]

    return encode


class _Memory:
    """Ids of the pieces seen so far, in one long array."""

    def __init__(self, tokenizer: Any, dtype: type[np.unsignedinteger[Any]]):
        self._tokenizer, self._dtype = tokenizer, dtype
        self._token_bytes = _bytes_by_id(tokenizer)
        self._forget()

    def _forget(self) -> None:
        self._slots: dict[bytes, int] = {}
        self._ids = np.zeros(0, self._dtype)
        self._starts = np.zeros(1, np.int64)  # (slots + 1,): slot s has ids[starts[s] : starts[s + 1]]

    def gather(self, unique: list[bytes], indices: npt.NDArray[np.int32]) -> tuple[Ids, Positions]:
        """Ids of the pieces `unique[indices]` in a row, and where each piece's ids end, 0 in front: (pieces + 1,)."""
        slots = self._learn(unique)[indices]
        starts = self._starts[slots]
        lengths = self._starts[slots + 1] - starts
        ends = np.concatenate([[0], np.cumsum(lengths)])
        places = np.arange(ends[-1]) + np.repeat(starts - ends[:-1], lengths)
        return self._ids[places], ends

    def _learn(self, unique: list[bytes]) -> Positions:
        """Slot of each piece; those not seen before are encoded."""
        if len(self._starts) > MOST_CHUNKS:
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
        known.update((piece, slot) for slot, piece in enumerate(new, first) if len(piece) <= LONGEST_CHUNK)
        self._ids = np.concatenate([self._ids, ids])
        self._starts = np.concatenate([self._starts, self._starts[-1] + np.cumsum(lengths)])
        return slots

    def _encode_each(self, pieces: list[bytes]) -> tuple[Ids, Positions]:
        texts = [piece.decode() for piece in pieces]
        encodings = [e.ids for e in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
        ids = np.fromiter(chain.from_iterable(encodings), self._dtype)
        return ids, np.fromiter(map(len, encodings), np.int64, len(encodings))

    def _encode_joined(self, words: list[bytes]) -> tuple[Ids, Positions]:
        """Encode words that begin with a space as one text, four times as fast: the bytes of its tokens tell where each ends.

        One by one where they do not, because tokens do not spell this text byte by byte.
        """
        encoding = self._tokenizer.encode_batch_fast([b"".join(words).decode()], add_special_tokens=False)[0]
        ids = np.array(encoding.ids, self._dtype)
        token_ends = np.cumsum(self._token_bytes[ids])
        word_ends = np.cumsum(np.fromiter(map(len, words), np.int64, len(words)))
        last = np.searchsorted(token_ends, word_ends)
        if len(ids) != last[-1] + 1 or (token_ends[last] != word_ends).any():
            return self._encode_each(words)
        return ids, np.diff(last, prepend=-1)


def _bytes_by_id(tokenizer: Any) -> Positions:
    """How many bytes of text each id stands for, 0 where that cannot be told: (ids,)."""
    state = json.loads(tokenizer.to_str())
    vocabulary = tokenizer.get_vocab()
    byte_level = "ByteLevel" in json.dumps(state["pre_tokenizer"])
    sizes = np.zeros(max(vocabulary.values()) + 1, np.int64)
    for token, number in vocabulary.items():
        one_byte = state["model"].get("byte_fallback") and _BYTE_TOKEN.fullmatch(token)
        sizes[number] = 1 if one_byte else len(token) if byte_level else len(token.encode())
    return sizes
