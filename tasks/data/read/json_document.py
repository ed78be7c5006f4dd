"""Read a JSON document record by record, each with the line it starts on.

The text is held in memory (hence the limit), the records are not: they are decoded one at a time.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from schemas.errors import UserError
from schemas.spec.records import ReasonCode
from tasks.data.read.rows import Refusal, Row, pick

MAX_DOCUMENT_BYTES = 2**30

_SPACE = re.compile(r"[ \t\n\r]*")
_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")


def read_json(
    file: str, blocks: Iterator[bytes], encoding: str, columns: dict[str, str | int]
) -> Iterator[Row]:
    """Yield the records of an array, of an object's `data` array, or of each value of an object.

    An object that itself has a string in the text column, or nothing but scalars, is one record.

    Raises:
        UserError: the document is larger than 1 GiB, is not JSON, or is JSON Lines.
    """
    text, damaged = _load(file, blocks, encoding)
    text_key = str(next(iter(columns.values()), ""))  # the record's first field
    for line, value in _records(_Cursor(file, text), text_key):
        fields = value if isinstance(value, Refusal) else pick(value, columns)
        if (
            damaged
            and isinstance(fields, dict)
            and any(_ESCAPED_BYTE.search(str(v)) for v in fields.values())
        ):
            fields = Refusal(ReasonCode.UNDECODABLE, f"a byte of the record is not {encoding}")
        yield line, None, fields


def _load(file: str, blocks: Iterator[bytes], encoding: str) -> tuple[str, bool]:
    """Decode the whole document; bytes that do not decode become lone surrogates, and their presence is told."""
    taken = bytearray()
    size = Path(file).stat().st_size if Path(file).is_file() else 0
    for block in blocks if size <= MAX_DOCUMENT_BYTES else ():
        taken += block
        size = max(size, len(taken))
        if size > MAX_DOCUMENT_BYTES:
            break
    if size > MAX_DOCUMENT_BYTES:
        fix = "convert it to jsonl (one record a line), for example with: jq -c '.[]' in.json > out.jsonl"
        raise UserError("a JSON document of more than 1 GiB would not fit in memory", file, fix)
    try:
        return taken.decode(encoding).removeprefix("\ufeff"), False
    except UnicodeDecodeError as error:
        try:
            return taken.decode(encoding, "surrogateescape").removeprefix("\ufeff"), True
        except UnicodeDecodeError:
            line = taken.count(b"\n", 0, error.start) + 1
            raise UserError(
                f"cannot decode the document as {encoding}", f"{file}:{line}", "set the source's encoding"
            ) from None


@dataclass
class _Cursor:
    """A place in a JSON text that only moves forward, and the line it is on."""

    file: str
    text: str
    position: int = 0
    counted: int = 0
    newlines: int = 0
    constants: list[str] = field(default_factory=list)
    """NaN and Infinity met in the value being decoded."""

    def __post_init__(self) -> None:
        self.decoder = json.JSONDecoder(parse_constant=self.constants.append)

    def peek(self) -> str:
        """Skip white space and return the next character, or an empty string at the end."""
        self.position = _SPACE.match(self.text, self.position).end()  # type: ignore[union-attr]
        return self.text[self.position : self.position + 1]

    def take(self, allowed: str) -> str:
        """Consume and return the next character, which must be one of `allowed`."""
        found = self.peek()
        if not found or found not in allowed:
            raise self.error(self.position)
        self.position += 1
        return found

    def value(self) -> tuple[int, Any]:
        """Consume one value; return the line where it starts, and it."""
        self.peek()
        line = self.line()
        self.constants.clear()
        try:
            value, self.position = self.decoder.raw_decode(self.text, self.position)
        except json.JSONDecodeError as error:
            raise self.error(error.pos) from None
        except RecursionError:
            raise self.error(self.position, "nested too deeply") from None
        except ValueError:  # Python reads no number of more than 4,300 digits
            raise self.error(self.position, "a number has too many digits") from None
        if self.constants:
            value = Refusal(ReasonCode.MALFORMED_JSON, f"{self.constants[0]} is not JSON")
        return line, value

    def elements(self) -> Iterator[tuple[int, Any]]:
        """Consume an array, one element at a time."""
        self.take("[")
        if self.peek() == "]":
            self.position += 1
            return
        yield self.value()
        while self.take(",]") == ",":
            yield self.value()

    def members(self) -> Iterator[str]:
        """Consume an object; whoever asks for a key consumes its value before asking for the next."""
        self.take("{")
        if self.peek() == "}":
            self.position += 1
            return
        while True:
            if self.peek() != '"':
                raise self.error(self.position)
            _, key = self.value()
            self.take(":")
            yield key
            if self.take(",}") == "}":
                return

    def line(self) -> int:
        self.newlines += self.text.count("\n", self.counted, self.position)
        self.counted = self.position
        return self.newlines + 1

    def end(self) -> None:
        """Require that nothing follows."""
        if self.peek():
            line = self.line()
            fix = "set the source's format to jsonl, or put the values into one array"
            raise UserError("more than one JSON value in the document", f"{self.file}:{line}", fix)

    def error(self, position: int, reason: str = "not JSON from here on") -> UserError:
        column = position - self.text.rfind("\n", 0, position)
        line = self.text.count("\n", 0, position) + 1
        fix = "repair the document, or convert it to jsonl, where a bad row does not spoil the others"
        return UserError(f"{reason} (column {column})", f"{self.file}:{line}", fix)


def _records(cursor: _Cursor, text_key: str) -> Iterator[tuple[int, Any]]:
    match cursor.peek():
        case "":
            return
        case "[":
            yield from cursor.elements()
        case "{":
            layout = _survey(_Cursor(cursor.file, cursor.text), text_key)
            yield from [cursor.value()] if layout == "record" else _members(cursor, layout)
        case _:
            yield cursor.value()
    cursor.end()


def _survey(cursor: _Cursor, text_key: str) -> str:
    """How an object holds its records: it is a `record`, has them in `data`, or in its `values`."""
    has_data, scalars, containers = False, 0, 0
    is_text = False
    for key in cursor.members():
        opener = cursor.peek()
        if opener == "[":
            for _ in cursor.elements():
                pass
        else:
            cursor.value()
        has_data |= key == "data" and opener == "["
        is_text |= key == text_key and opener == '"'
        containers += opener in "[{"
        scalars += opener not in "[{"
    cursor.end()
    if is_text or (scalars and not containers):
        return "record"
    return "data" if has_data else "values"


def _members(cursor: _Cursor, layout: str) -> Iterator[tuple[int, Any]]:
    for key in cursor.members():
        wanted = layout == "values" or key == "data"
        found = cursor.elements() if cursor.peek() == "[" else iter([cursor.value()])
        for record in found:
            if wanted:
                yield record
