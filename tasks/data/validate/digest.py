"""Digests of texts that do not change with white space or Unicode composition: equal digests are duplicates."""

import unicodedata
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import xxhash

_SPACES = bytes(0x20 if byte < 0x80 and chr(byte).isspace() else byte for byte in range(256))


def text_digest(text: str) -> bytes:
    """xxh3-128 (16 bytes) of the text in NFC with every run of white space as one space."""
    return xxhash.xxh3_128_digest(" ".join(unicodedata.normalize("NFC", text).split()).encode())


def text_digests(texts: Sequence[str]) -> list[bytes]:
    """`text_digest` of each text. ASCII texts are done together, several times faster."""
    ascii_texts = [text for text in texts if text.isascii()]
    done = iter(_ascii_digests(ascii_texts) if ascii_texts else [])
    return [next(done) if text.isascii() else text_digest(text) for text in texts]


def _ascii_digests(texts: Sequence[str]) -> list[bytes]:
    """NFC leaves ASCII alone, so only white space is folded, in one array over all texts."""
    characters: npt.NDArray[np.uint8] = np.frombuffer("".join(texts).encode().translate(_SPACES), np.uint8)
    ends = np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)))
    starts = np.concatenate([[0], ends[:-1]])
    space = characters == 0x20
    follows_space = np.concatenate([[True], space[:-1]])[: len(space)]
    follows_space[starts[starts < len(space)]] = True
    dropped = space & follows_space
    folded = characters[~dropped]
    ends -= np.searchsorted(np.flatnonzero(dropped), ends)
    starts = np.concatenate([[0], ends[:-1]])
    filled = ends > starts
    ends[filled] -= folded[ends[filled] - 1] == 0x20
    view = memoryview(folded)
    return [
        xxhash.xxh3_128_digest(view[start:end])
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
    ]
