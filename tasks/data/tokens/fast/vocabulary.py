"""What a tokenizer's tokens stand for, in bytes."""

import json
import re
from typing import Any

import numpy as np
import numpy.typing as npt

_BYTE_TOKEN = re.compile("<0x([0-9A-F]{2})>")


def token_bytes(tokenizer: Any) -> list[bytes]:
    """Bytes of every token that merges can make; empty if the tokenizer is not a byte-pair one without affixes."""
    state = json.loads(tokenizer.to_str())
    model = state["model"]
    if model["type"] != "BPE" or any(model.get(name) for name in ("continuing_subword_prefix", "end_of_word_suffix", "dropout")):  # fmt: skip
        return []
    if model.get("fuse_unk") and not model.get("byte_fallback"):
        return []
    merged = model["vocab"].keys() - {token["content"] for token in state["added_tokens"]}
    if _is_byte_level(state):
        alphabet = {character: byte for byte, character in enumerate(byte_level_alphabet())}
        return [bytes(alphabet[c] for c in token) for token in merged if alphabet.keys() >= set(token)]
    fallback = model.get("byte_fallback")
    return [token.encode() for token in merged if not (fallback and _BYTE_TOKEN.fullmatch(token))]


def added_texts(tokenizer: Any) -> list[str]:
    """Contents of added tokens that are recognised inside a text."""
    return [token.content for token in tokenizer.get_added_tokens_decoder().values() if not token.special]


def bytes_by_id(tokenizer: Any) -> npt.NDArray[np.int64]:
    """How many bytes of text each id stands for: (ids,)."""
    state = json.loads(tokenizer.to_str())
    vocabulary = tokenizer.get_vocab()
    byte_level, fallback = _is_byte_level(state), state["model"].get("byte_fallback")
    sizes = np.zeros(max(vocabulary.values()) + 1, np.int64)
    for token, number in vocabulary.items():
        one_byte = fallback and _BYTE_TOKEN.fullmatch(token)
        sizes[number] = 1 if one_byte else len(token) if byte_level else len(token.encode())
    return sizes


def _is_byte_level(state: dict[str, Any]) -> bool:
    return "ByteLevel" in json.dumps(state["pre_tokenizer"])


def byte_level_alphabet() -> str:
    """The character that stands for each byte in byte-level vocabularies (GPT-2): printable ones for themselves."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(256, 512))
    return "".join(chr(byte if byte in shown else next(others)) for byte in range(256))
