"""Encode text by remembering the ids of its pieces.

A byte-pair tokenizer that cuts text at spaces encodes a word the same wherever it stands, and most words of a corpus
have been seen before: looking them up is many times faster than the merges. Whether that holds for a tokenizer is not
assumed: its tokens must not reach across a cut, and ids of a sample of the very rows, and of made-up rows with every
mixture of white space and punctuation, are compared with the tokenizer's own. One difference and fewer kinds of cuts
are tried; if none hold, the tokenizer itself does the whole part.
"""

import random
import re
from collections.abc import Callable, Iterator
from itertools import islice, pairwise
from typing import Any

import numpy as np

from tasks.data.tokens.fast.cuts import MARGIN, Cuts, cut_pieces, lay_out, reach_across
from tasks.data.tokens.fast.han_cuts import find_glue
from tasks.data.tokens.fast.piece_cache import Memory
from tasks.data.tokens.fast.vocabulary import added_texts, token_bytes

Encoder = Callable[[list[str]], list[bytes]]

SAMPLE_BATCHES = 2
SAMPLE_ROWS = 100  # of a batch
MADE_UP_TEXTS = 2000


def list_encoders(tokenizer: Any, dtype: type[np.unsignedinteger[Any]]) -> list[Encoder]:
    """Encoders that may be used for a tokenizer, the one with the most cuts first, the tokenizer itself last.

    An encoder maps texts to the bytes of their ids (little-endian `dtype`), without special tokens.
    """
    plain = plain_encoder(tokenizer, dtype)
    if not _cuts_at_spaces(tokenizer):
        return [plain]
    tokens = token_bytes(tokenizer)
    glue = find_glue(tokens) if tokens else None
    made_up = made_up_texts()
    expected = plain(made_up)
    encoders = [
        cached_encoder(tokenizer, dtype, cuts)
        for cuts in (Cuts(True, True, glue), Cuts(True, False, glue), Cuts())
        if not reach_across(tokens, cuts)
    ]
    return [*(encode for encode in encoders if encode(made_up) == expected), plain]


def choose_encoder(encoders: list[Encoder], batches: Iterator[list[str]]) -> Encoder:
    """The first encoder that agrees with the last, the tokenizer itself, on a sample of `batches`."""
    *candidates, plain = encoders
    if not candidates:
        return plain
    samples = [texts[:: max(1, len(texts) // SAMPLE_ROWS)] for texts in islice(batches, SAMPLE_BATCHES)]
    expected = [plain(sample) for sample in samples]
    return next(
        (
            encode
            for encode in candidates
            if all(encode(sample) == ids for sample, ids in zip(samples, expected, strict=True))
        ),
        plain,
    )


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
    bits += [" ", "  ", "    ", "\n", "\n\n", "\n    ", "\r\n", "\t", "\x0b", "\x1c", "\u00a0", "\u2028", "\u3000"]  # fmt: skip
    bits += [".", ",", "...", '"', "（", "，", "”", "的", "我们", "\r"]
    return ["".join(generator.choices(bits, k=generator.randint(2, 9))) for _ in range(MADE_UP_TEXTS)]


def plain_encoder(tokenizer: Any, dtype: type[np.unsignedinteger[Any]]) -> Encoder:
    """Encode with the tokenizer's own batch call."""

    def encode(texts: list[str]) -> list[bytes]:
        encodings = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [np.array(encoding.ids, dtype).tobytes() for encoding in encodings]

    return encode


def cached_encoder(tokenizer: Any, dtype: type[np.unsignedinteger[Any]], cuts: Cuts = Cuts()) -> Encoder:  # noqa: B008
    """Encode piece by piece from memory: the texts of a batch are cut, looked up and put together as arrays."""
    import pyarrow as pa

    memory = Memory(tokenizer, dtype)
    plain = plain_encoder(tokenizer, dtype)
    added = added_texts(tokenizer)

    def encode(texts: list[str]) -> list[bytes]:
        # added tokens are found before anything else: they may lie across cuts
        whole = [at for at, text in enumerate(texts) if any(word in text for word in added)] if added else []
        encoded = [text.encode() for text in texts]
        for at in whole:
            encoded[at] = b""
        data, ends = lay_out(encoded)
        if len(data) == 2 * MARGIN:
            return plain(texts)
        starts = cut_pieces(data, ends, cuts)
        offsets = np.append(starts, ends[-1])
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
        pieces = pa.Array.from_buffers(pa.large_binary(), len(starts), buffers).dictionary_encode()
        ids, id_bounds = memory.gather(pieces.dictionary.to_pylist(), pieces.indices.to_numpy())
        bounds = id_bounds[np.searchsorted(offsets, np.concatenate([[MARGIN], ends]))]
        rows = [ids[start:stop] for start, stop in pairwise(bounds.tolist())]
        for at, own in zip(whole, plain([texts[at] for at in whole]), strict=True):
            rows[at] = own
        return rows

    return encode
