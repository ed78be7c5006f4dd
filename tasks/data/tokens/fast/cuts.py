"""Cut texts into pieces that a byte-pair tokenizer encodes the same wherever they stand, many texts at a time.

A cut is made only where no split pattern in use (GPT-2, Llama 3, Qwen 2, o200k, ours) joins left and right, or looks
across, and where no token of the vocabulary reaches across, so that no merge does. Where the neighbourhood is odd there
is no cut: a piece that is too long costs time, a wrong cut would cost ids.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tasks.data.tokens.fast.han_cuts import Glue, cut_han

Bytes = npt.NDArray[np.uint8]
Positions = npt.NDArray[np.int64]

MARGIN = (
    3  # zero bytes before and after the texts, so that neighbours can be looked at without looking for ends
)

# What a byte may be, one bit each.
_VISIBLE, _ALNUM, _STOP, _BLANK, _SPACE, _NEWLINE, _SLASH, _LEAD = (1 << bit for bit in range(8))


def _classify(byte: int) -> int:
    kinds = _SLASH * (byte == 0x2F) | _LEAD * (byte == 0xC2 or 0xE1 <= byte <= 0xEF)
    kinds |= _BLANK * (byte in b" \t\x0b\x0c") | _SPACE * (byte == 0x20) | _NEWLINE * (byte == 0x0A)
    if byte >= 0x80 or 0x21 <= byte < 0x7F:
        kinds |= _VISIBLE  # neither space nor control; white space outside ASCII is sorted out later
    if byte < 0x80 and chr(byte).isalnum():
        kinds |= _ALNUM
    elif (0x21 <= byte < 0x7F and byte != 0x27) or byte in b"\r\n":
        kinds |= _STOP  # not the apostrophe: it may be that of a contraction
    return kinds


_KINDS = bytes(_classify(byte) for byte in range(256))


@dataclass(frozen=True)
class Cuts:
    """Where to cut, besides before a space and a word and before other white space after a word."""

    stops: bool = False
    """Between an ASCII letter or digit and punctuation or a line end."""
    line_ends: bool = False
    """After any run of line ends, not only after one that follows a word (GPT-2 cuts runs in two)."""
    glue: Glue | None = None
    """Between Han characters, and between them and their punctuation, where no token holds the two in a row."""


def cut_pieces(data: Bytes, ends: Positions, cuts: Cuts) -> Positions:
    """First byte of every piece, rising; every text that is not empty starts one.

    Args:
        data: UTF-8 of all texts in a row between MARGIN zero bytes.
        ends: position in `data` where each text ends; the first begins at MARGIN: (texts,).
        cuts: where to cut.
    """
    starts = np.concatenate([[MARGIN], ends[:-1]])
    kinds = np.frombuffer(data.tobytes().translate(_KINDS), np.uint8)
    visible = kinds & _VISIBLE != 0
    marks = np.zeros(len(data), bool)
    marks[:-1] = (kinds[:-1] & _SPACE != 0) & visible[1:]
    marks[1:] |= (kinds[1:] & _BLANK != 0) & visible[:-1]
    lines = (
        (kinds[1:-1] & _NEWLINE != 0) & visible[2:] & (kinds[2:] & _SLASH == 0)
    )  # o200k takes a slash along
    marks[2:] |= lines if cuts.line_ends else lines & visible[:-2]
    if cuts.stops:
        marks[1:] |= (kinds[1:] & _STOP != 0) & (kinds[:-1] & _ALNUM != 0)
    lead = np.flatnonzero(kinds & _LEAD)
    if len(lead):
        _spare_wide_space(data, lead, marks)
        if cuts.glue is not None:
            cut_han(data, lead[data[lead] >= 0xE2], marks, cuts.glue)
    # what was decided at the edges of a text looked into its neighbours
    marks[ends - 1] &= data[ends - 1] != 0x20
    marks[starts + 1] &= data[starts] != 0x0A
    marks[starts[ends > starts]] = True
    marks[:MARGIN] = marks[len(data) - MARGIN :] = False
    return np.flatnonzero(marks)


def lay_out(texts: list[bytes]) -> tuple[Bytes, Positions]:
    """Texts in a row between MARGIN zero bytes, and where each ends: (texts,)."""
    data = np.frombuffer(b"".join([bytes(MARGIN), *texts, bytes(MARGIN)]), np.uint8)
    return data, np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts))) + MARGIN


def reach_across(tokens: list[bytes], cuts: Cuts) -> bool:
    """Whether some token has a place inside where `cuts` would cut: merges could then join what was cut.

    The glue is left out: it is made from the tokens.
    """
    if not tokens:
        return False
    # the neighbours that allow the most cuts, but for the one inside a run of spaces: patterns see to that
    framed = [b"a" + token + b"\n" for token in tokens]
    data, ends = lay_out(framed)
    cut = cut_pieces(data, ends, replace(cuts, glue=None))
    text = np.searchsorted(ends, cut, side="right")
    before, after = cut - np.concatenate([[MARGIN], ends[:-1]])[text], ends[text] - cut
    return bool(((before > 1) & (after > 1)).any())


def _spare_wide_space(data: Bytes, lead: Positions, marks: npt.NDArray[np.bool_]) -> None:
    """Take back cuts next to white space outside ASCII (U+0085, U+00A0, U+1680, U+2000 to U+3000).

    `lead` has the first bytes of characters that may be such.
    """
    lead = lead[data[lead] <= 0xE3]
    first = lead[_is_wide_space(data, lead)]
    behind = first + np.where(data[first] == 0xC2, 2, 3)
    for near in (first - 1, first, behind, behind + 1):
        marks[near] = False


def _is_wide_space(data: Bytes, at: Positions) -> npt.NDArray[np.bool_]:
    b0, b1, b2 = data[at], data[at + 1], data[at + 2]
    general = (b1 == 0x80) & ((b2 <= 0x8A) | (b2 == 0xA8) | (b2 == 0xA9) | (b2 == 0xAF))
    wide: npt.NDArray[np.bool_] = (
        ((b0 == 0xC2) & ((b1 == 0x85) | (b1 == 0xA0)))
        | ((b0 == 0xE1) & (b1 == 0x9A) & (b2 == 0x80))
        | ((b0 == 0xE2) & (general | ((b1 == 0x81) & (b2 == 0x9F))))
        | ((b0 == 0xE3) & (b1 == 0x80) & (b2 == 0x80))
    )
    return wide
