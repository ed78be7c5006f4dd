"""Encode text by remembering the ids of its words.

A byte-pair tokenizer that cuts text at spaces encodes a word the same wherever it stands, and most words of a corpus
have been seen before: a dictionary answers ten times faster than the merges. Whether that holds for a tokenizer is not
assumed: the ids of a sample of the very rows are compared with the tokenizer's own, and one difference switches the
dictionary off for the whole part.
"""

import re
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np

Encoder = Callable[[list[str]], list[bytes]]

# A word with the one space before it and line ends after it; or a run of white space but for that last space.
_CHUNK = re.compile(r"\s+(?= \S)| ?\S+[\r\n]*|\s+")
_UNSAFE = re.compile(
    r"[^\S\r\n]\r?\n|\s$|[\r\n]\s+[\r\n]"
)  # a boundary of white space that depends on its neighbours
LONGEST_CHUNK = 40  # characters; longer ones (Chinese sentences, URLs) rarely come again
MOST_CHUNKS = 1_000_000
SAMPLE_BATCHES = 2


def make_encoder(
    tokenizer: Any, batches: Iterator[list[str]], dtype: type[np.unsignedinteger[Any]]
) -> Encoder:
    """Choose the dictionary if it proves equal on a sample of `batches`, else the tokenizer itself.

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
    """Encode word by word through a dictionary of ids."""
    plain = plain_encoder(tokenizer, dtype)
    cache: dict[str, bytes] = {}

    def encode(texts: list[str]) -> list[bytes]:
        if len(cache) > MOST_CHUNKS:
            cache.clear()
        chunked = [None if _UNSAFE.search(text) else _CHUNK.findall(text) for text in texts]
        missing = set().union(*(chunks for chunks in chunked if chunks)).difference(cache)
        words = sorted(missing)
        cache.update(zip(words, plain(words), strict=True))
        unsafe = [text for text, chunks in zip(texts, chunked, strict=True) if chunks is None]
        whole = iter(plain(unsafe))
        rows = [
            next(whole) if chunks is None else b"".join(map(cache.__getitem__, chunks)) for chunks in chunked
        ]
        for word in words:
            if len(word) > LONGEST_CHUNK:
                del cache[word]
        return rows

    return encode
