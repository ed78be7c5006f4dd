"""Which character encoding a file is in: what the user says, else UTF-8 where the bytes are, else a measured guess."""

import codecs
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.errors import UserError
from tasks.data.read.stream import compression, read_blocks

if TYPE_CHECKING:
    from charset_normalizer import CharsetMatch

_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16: its mark begins with that of UTF-16
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    "\ufeff".encode("gb18030"): "gb18030",
}
_SUPERSETS = {
    "utf-8-sig": "utf-8",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
}
_MULTIBYTE = ("gb18030", "big5", "big5hkscs", "cp950", "cp949", "johab", "cp932", "euc_jp", "euc_jis_2004")
_NOT_FOR_FILES = ("idna", "punycode", "undefined", "unicode-escape", "raw-unicode-escape", "mbcs", "oem")
_STATEFUL = ("utf-7", "iso2022", "hz")
_SAMPLE_PLACES = 16
_SAMPLE_BYTES = 64 * 2**10
_VOTE_BYTES = 4096
_VOTES = 8
_FEW_BAD_LINES = 0.1
_MIN_MULTIBYTE = 4  # two characters
_MIN_SINGLE_BYTE = 20
"""Non-ASCII bytes needed before an 8-bit code page is believed: each of them can decode anything."""


def resolve_encoding(name: str, where: str) -> str:
    """Name of the codec for an encoding the user gave; Chinese subsets become GB18030, which holds them.

    Raises:
        UserError: no such text encoding.
    """
    try:
        info = codecs.lookup(name)
        known = bool(getattr(info, "_is_text_encoding", True)) and info.name not in _NOT_FOR_FILES
    except (LookupError, ValueError):
        known = False
    if not known:
        raise UserError(
            f"'{name}' is not a known encoding",
            where,
            "write utf-8, gb18030, big5, cp1252 or the like, or leave it out",
        )
    return _SUPERSETS.get(info.name, info.name)


def detect_encoding(file: str) -> str:
    """Codec of a file, told from its byte order mark or from samples spread over it."""
    return guess_encoding(_sample(file))


def guess_encoding(sample: bytes) -> str:
    """Codec of some bytes; `utf-8` unless they are clearly something else.

    Bytes that are neither leave it at UTF-8: their rows are then refused one by one, not silently misread.
    """
    for mark, encoding in _MARKS.items():
        if sample.startswith(mark):
            return encoding
    text = sample.decode("utf-8", "replace")
    bad = text.count("\ufffd")
    good = sum(not character.isascii() for character in text) - bad if bad else 0
    if bad == 0 or good >= bad:
        return "utf-8"
    lines = [line for line in sample.splitlines() if line.strip()]
    odd = [line for line in lines if not _is_utf8(line)]
    if len(odd) < _FEW_BAD_LINES * len(lines):
        return "utf-8"
    return _guess_legacy(odd)


def newline_is_a_byte(encoding: str) -> bool:
    """Whether the byte 0x0A is always, and alone, the newline: such files can be cut without decoding them."""
    name = codecs.lookup(encoding).name
    if name.startswith(("utf-16", "utf-32", *_STATEFUL)):
        return False
    try:
        return "a\n".encode(name) == b"a\n"
    except UnicodeError:
        return False


def _guess_legacy(lines: list[bytes]) -> str:
    """Ask charset-normalizer about several groups of lines, and let the groups vote: one broken line misleads few."""
    votes: Counter[str] = Counter()
    group = b""
    for line in lines:
        group += line[: 4 * _VOTE_BYTES] + b"\n"
        if len(group) >= _VOTE_BYTES:
            votes[_ask(group)] += 1
            group = b""
        if votes.total() >= _VOTES:
            break
    if group and votes.total() < 2:
        votes[_ask(group)] += 1
    best = votes.most_common(1)[0][0]
    evidence = sum(not byte < 0x80 for line in lines[:200] for byte in line[:_VOTE_BYTES])
    return best if evidence >= (_MIN_MULTIBYTE if best in _MULTIBYTE else _MIN_SINGLE_BYTE) else "utf-8"


def _ask(sample: bytes) -> str:
    from charset_normalizer import from_bytes

    ranked = from_bytes(sample, cp_exclusion=["utf_8", "utf_7", "utf_16", "utf_16_be", "utf_16_le", "utf_32"])
    if not ranked:
        return "utf-8"
    names = [_SUPERSETS.get(match.encoding, match.encoding) for match in ranked]
    level = [match.encoding for match in ranked if _merit(match) == _merit(ranked[0])]
    if "cp1252" in level:  # it cannot tell Western from Central Europe here; the former is far more common
        return "cp1252"
    if names[0] == "cp949" and "gb18030" in names and _has_hanja(sample.decode("cp949", "replace")):
        return "gb18030"
    return names[0]


def _merit(match: "CharsetMatch") -> tuple[float, float]:
    return match.chaos, match.coherence


def _has_hanja(text: str) -> bool:
    """Whether Chinese characters abound: in Korean text of today they are rare, in misread Chinese they are not."""
    letters = [character for character in text if not character.isascii()]
    return sum("\u4e00" <= character <= "\u9fff" for character in letters) > 0.1 * len(letters)


def _is_utf8(line: bytes) -> bool:
    try:
        codecs.utf_8_decode(line, "strict", False)  # a character cut by the sample's end is no fault
    except UnicodeDecodeError:
        return False
    return True


def _sample(file: str) -> bytes:
    """Bytes from the beginning, and for a large plain file from places all over it."""
    size = Path(file).stat().st_size if Path(file).is_file() else 0
    if compression(file) is not None or size <= _SAMPLE_PLACES * _SAMPLE_BYTES:
        taken = bytearray()
        for block in read_blocks(file):
            taken += block
            if len(taken) >= _SAMPLE_PLACES * _SAMPLE_BYTES:
                break
        return bytes(taken)
    step = size // _SAMPLE_PLACES
    places = [
        b"".join(read_blocks(file, place * step, place * step + _SAMPLE_BYTES))
        for place in range(_SAMPLE_PLACES)
    ]
    # Whole lines only: a place in the middle begins and ends inside one.
    return b"\n".join([places[0], *(place.partition(b"\n")[2].rpartition(b"\n")[0] for place in places[1:])])
