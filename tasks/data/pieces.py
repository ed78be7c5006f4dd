"""Cut texts into pieces that a byte-pair tokenizer encodes the same wherever they stand, many texts at a time.

A cut is made only where no split pattern in use (GPT-2, Llama 3, Qwen 2, o200k, ours) joins left and right, or looks
across: before a space and a word; before other white space after a word; between one line end and a word, unless that
is a slash (o200k takes it along); between an ASCII letter or digit and punctuation (not the apostrophe of a
contraction) or a line end. Between two Han characters a cut is made where no token of the vocabulary holds the two in a
row: then no merge reaches across, whatever the pattern.

Where the neighbourhood is odd there is no cut: a piece that is too long costs time, a wrong cut would cost ids.
"""

import json
from typing import Any

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Positions = npt.NDArray[np.int64]
Glue = npt.NDArray[np.bool_]  # (GLUE_SLOTS,) by _slot of two characters: some token may hold them in a row

MARGIN = (
    3  # zero bytes before and after the texts, so that neighbours can be looked at without looking for ends
)
GLUE_SLOTS = 2**22  # pairs that share a slot with a glued pair are not cut: slower, never wrong

_WORD = np.array([0x21 <= byte < 0x7F for byte in range(256)])  # ASCII that is neither space nor control
_ALNUM = np.array([chr(byte).isalnum() and byte < 0x80 for byte in range(256)])
_STOP = (_WORD & ~_ALNUM) | np.array([byte in b"\r\n" for byte in range(256)])
_STOP[ord("'")] = False
_BLANK = np.array([byte in b" \t\x0b\x0c" for byte in range(256)])  # white space that is no line end


def cut_pieces(data: Bytes, ends: Positions, glue: Glue | None) -> Positions:
    """First byte of every piece, rising; every text that is not empty starts one.

    Args:
        data: UTF-8 of all texts in a row between MARGIN zero bytes.
        ends: position in `data` where each text ends; the first begins at MARGIN: (texts,).
        glue: from `han_glue`; None to cut no Han characters apart.
    """
    starts = np.concatenate([[MARGIN], ends[:-1]])
    cuts = np.zeros(len(data), bool)
    blank = _BLANK[data]
    after = _WORD[data] | (
        data >= 0x80
    )  # may follow a cut space; white space outside ASCII is sorted out below
    cuts[1:-1] |= (data[1:-1] == 0x20) & after[2:]
    cuts[1:] |= blank[1:] & after[:-1]
    cuts[2:] |= (data[1:-1] == 0x0A) & after[:-2] & after[2:] & (data[2:] != 0x2F)
    cuts[1:] |= _STOP[data[1:]] & _ALNUM[data[:-1]]
    _spare_wide_space(data, cuts)
    if glue is not None:
        _cut_han(data, cuts, glue)
    # what was decided at the edges of a text looked into its neighbours
    cuts[ends - 1] &= data[ends - 1] != 0x20
    cuts[starts + 1] &= data[starts] != 0x0A
    cuts[starts[ends > starts]] = True
    cuts[:MARGIN] = cuts[len(data) - MARGIN :] = False
    return np.flatnonzero(cuts)


def _spare_wide_space(data: Bytes, cuts: npt.NDArray[np.bool_]) -> None:
    """Take back cuts next to white space outside ASCII (U+0085, U+00A0, U+1680, U+2000 to U+3000)."""
    lead = np.flatnonzero((data == 0xC2) | (data == 0xE1) | (data == 0xE2) | (data == 0xE3))
    first = lead[_is_wide_space(data, lead)]
    behind = first + np.where(data[first] == 0xC2, 2, 3)
    for near in (first - 1, first, behind, behind + 1):
        cuts[near] = False


def _is_wide_space(data: Bytes, at: Positions) -> npt.NDArray[np.bool_]:
    b0, b1, b2 = data[at], data[at + 1], data[at + 2]
    general = (b1 == 0x80) & ((b2 <= 0x8A) | (b2 == 0xA8) | (b2 == 0xA9) | (b2 == 0xAF))
    return (
        ((b0 == 0xC2) & ((b1 == 0x85) | (b1 == 0xA0)))
        | ((b0 == 0xE1) & (b1 == 0x9A) & (b2 == 0x80))
        | ((b0 == 0xE2) & (general | ((b1 == 0x81) & (b2 == 0x9F))))
        | ((b0 == 0xE3) & (b1 == 0x80) & (b2 == 0x80))
    )


def _cut_han(data: Bytes, cuts: npt.NDArray[np.bool_], glue: Glue) -> None:
    """Cut between two Han characters that no token holds in a row."""
    at = np.flatnonzero((data >= 0xE3) & (data <= 0xE9))
    if not len(at):
        return
    codes = (
        ((data[at] & 0x0F).astype(np.int32) << 12)
        | ((data[at + 1] & 0x3F).astype(np.int32) << 6)
        | (data[at + 2] & 0x3F)
    )
    han = is_han(codes)
    pairs = np.flatnonzero(han[1:] & han[:-1] & (at[1:] == at[:-1] + 3))
    apart = ~glue[_slot(codes[pairs], codes[pairs + 1])]
    cuts[at[pairs[apart] + 1]] = True


def is_han(codes: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """CJK unified ideographs of the first plane, without those that normalisation changes."""
    return ((codes >= 0x4E00) & (codes <= 0x9FFF)) | ((codes >= 0x3400) & (codes <= 0x4DBF))


def _slot(left: npt.NDArray[np.int32], right: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    return ((left.astype(np.int64) * 40503 + right) * 2654435761 >> 7) % GLUE_SLOTS


def han_glue(tokenizer: Any) -> Glue | None:
    """Which pairs of Han characters some token holds in a row; None where tokens are not made of characters.

    Byte-pair merges build every token inside a word; if no token holds a pair, no merge ever joins its two sides, so
    the sides are encoded alone. Byte-level vocabularies cut characters themselves and are not looked into.
    """
    state = json.loads(tokenizer.to_str())
    model = state["model"]
    of_characters = (
        model["type"] == "BPE"
        and "ByteLevel" not in json.dumps(state["pre_tokenizer"])
        and (model.get("byte_fallback") or not model.get("fuse_unk"))
        and not model.get("continuing_subword_prefix")
        and not model.get("end_of_word_suffix")
        and not model.get("dropout")
    )
    if not of_characters:
        return None
    tokens = [token for token in model["vocab"] if len(token) > 1 and not token.isascii()]
    codes = np.array([ord(character) for character in "\0".join(tokens)], np.int32)
    glue = np.zeros(GLUE_SLOTS, bool)
    if len(codes) > 1:
        glue[_slot(codes[:-1], codes[1:])] = True
    return glue
