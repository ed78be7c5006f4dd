"""Text of users and data, made fit to be printed: nothing in it can move a cursor, forge a line or give an order.

Terminals obey control characters, bidirectional overrides turn what is read into something else, and build servers obey
lines that look like commands (`::error::`, `##[error]`). What would do so is written as its escape, such as `\\x1b`.
"""

import json
import re
from typing import Any

_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # C0 with newline, carriage return and ESC; DEL; C1
    "\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"  # marks of direction, separators of lines, no width
    "\ufff9-\ufffb\ufffe\uffff\ud800-\udfff"  # annotations, no characters, bytes that were no UTF-8
    "\U000e0000-\U000e0fff"  # tags: text that nobody sees
    + "".join(chr(plane << 16 | end) for plane in range(1, 17) for end in (0xFFFE, 0xFFFF))
    + "]"
)
_ORDERS = re.compile(r"^(\s*):(?=:)|#(?=#(?:\[|vso\[|teamcity\[))", re.MULTILINE)
"""What GitHub (first of its line, or `##[` anywhere), Azure and TeamCity take for an order."""


def visible(text: object) -> str:
    """One line: every control character as its escape (`\\n`, `\\x1b`, `\\u202e`)."""
    return _HIDDEN.sub(_escape, str(text))


def printable(text: str) -> str:
    """What is about to be printed: its newlines and tabs stay, no line of it is an order to a build server."""
    lines = ["\t".join(map(visible, line.split("\t"))) for line in text.split("\n")]
    return _ORDERS.sub(lambda match: f"{match[1] or ''}\\x{ord(match[0][-1]):02x}", "\n".join(lines))


def json_text(value: Any, indent: int | None = None) -> str:
    """The value as JSON that reads back as it was, printable as it is."""
    text = json.dumps(value, ensure_ascii=False, default=str, indent=indent)
    text = "\n".join(_HIDDEN.sub(_json_escape, line) for line in text.split("\n"))
    return re.sub(r"#(?=#(?:\[|vso\[|teamcity\[))", r"\\u0023", text)


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    if named := {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(character):
        return named
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _json_escape(match: re.Match[str]) -> str:
    return "".join(f"\\u{unit:04x}" for unit in _units(match[0]))


def _units(character: str) -> list[int]:
    """UTF-16 code units, as JSON writes what is beyond the basic plane."""
    raw = character.encode("utf-16-be", "surrogatepass")
    return [int.from_bytes(raw[at : at + 2], "big") for at in range(0, len(raw), 2)]
