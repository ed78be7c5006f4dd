"""Encode text by remembering the ids of its words.

A byte-pair tokenizer that cuts text at spaces encodes a word the same wherever it stands, and most words of a corpus
have been seen before: a dictionary answers ten times faster than the merges. Whether that holds for a tokenizer is not
assumed: ids of a sample of the very rows, and of made-up rows with every mixture of white space, are compared with the
tokenizer's own, and one difference switches the dictionary off for the whole part.
"""

import random
import re
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np

Encoder = Callable[[list[str]], list[bytes]]

# Where no pattern in use (GPT-2, Llama 3, Qwen 2, o200k, ours) joins left and right, or looks across:
# before a space and a word; before other white space after a word, unless punctuation may take line ends along;
# between one line end and a word, unless that is a slash (o200k takes it along).
# \x1c to \x1f are white space to Python alone.
_CUTS = re.compile(r"(?= \S)|(?<=\S)(?=[^\S\r\n\x1c-\x1f])|(?<=\S\n)(?=[^\s/])")
LONGEST_CHUNK = 40  # characters; longer ones (Chinese sentences, URLs) rarely come again
MOST_CHUNKS = 1_000_000
SAMPLE_BATCHES = 2
MADE_UP_TEXTS = 2000


def make_encoder(
    tokenizer: Any, batches: Iterator[list[str]], dtype: type[np.unsignedinteger[Any]]
) -> Encoder:
    """Choose the dictionary if it proves equal on a sample of `batches`, else the tokenizer itself.

    The encoder maps texts to the bytes of their ids (little-endian `dtype`), without special tokens.
    """
    plain = plain_encoder(tokenizer, dtype)
    if not _cuts_at_spaces(tokenizer):
        return plain
    cached = cached_encoder(tokenizer, dtype)
    for texts in islice(batches, SAMPLE_BATCHES):
        sample = texts[:: max(1, len(texts) // 200)]
        if cached(sample) != plain(sample):
            return plain
    return plain if cached(made_up := made_up_texts()) != plain(made_up) else cached


def _cuts_at_spaces(tokenizer: Any) -> bool:
    """Whether nothing that runs before the merges is known to reach across white space."""
    if tokenizer.normalizer is not None and type(tokenizer.normalizer).__name__ != "NFC":
        return False
    return not any(
        token.lstrip or token.rstrip or re.search(r"\s", token.content)
        for token in tokenizer.get_added_tokens_decoder().values()
        if not token.special  # those are plain text here
    )


def made_up_texts() -> list[str]:
    """Texts that put every kind of white space next to every kind of character, always the same ones."""
    generator = random.Random(0)
    bits = ["a", "The", "'s", "7", "1234", "é", "中文", "。", "!", "/", "_", "🙂", "e\u0301", "\u200b"]
    bits += [
        " ",
        "  ",
        "    ",
        "\n",
        "\n\n",
        "\n    ",
        "\r\n",
        "\t",
        "\x0b",
        "\x1c",
        "\u00a0",
        "\u2028",
        "\u3000",
    ]
    return ["".join(generator.choices(bits, k=generator.randint(2, 9))) for _ in range(MADE_UP_TEXTS)]


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
        chunked = [_CUTS.split(text) for text in texts]
        words = sorted(set().union(*chunked).difference(cache))
        cache.update(zip(words, plain(words), strict=True))
        rows = [b"".join(map(cache.__getitem__, chunks)) for chunks in chunked]
        for word in words:
            if len(word) > LONGEST_CHUNK:
                del cache[word]
        return rows

    return encode
