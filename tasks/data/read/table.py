"""Read CSV and TSV (RFC 4180): quoted fields may hold separators and newlines; a header names the columns.

Columns that are numbers, counted from 1, say that there is no header: the first line is a record already.
"""

import csv
import difflib
import re
from collections import deque
from collections.abc import Iterator
from itertools import chain

from schemas.errors import UserError
from schemas.spec.records import ReasonCode
from tasks.data.read.rows import TOO_LONG, UNCLOSED, Refusal, Row, decode
from tasks.data.read.stream import MAX_LINE_BYTES, Line

MAX_RECORD_LINES = 100_000
"""A quote left open further than this (or than MAX_LINE_BYTES) is a mistake: memory must not grow with the file."""

_NAME = re.compile(r"[\w .:/()#-]{1,40}")

Record = tuple[int, int, list[str] | Refusal]
"""Line and byte offset where the record starts, its cells."""


def read_table(
    file: str, lines: Iterator[Line], encoding: str, separator: str, columns: dict[str, str | int]
) -> Iterator[Row]:
    """Yield the fields of every record below the header, if there is one; `columns` maps field to column, or is empty for all.

    Raises:
        UserError: there is no such column in the header (or first record), or it is there twice.
    """
    records = read_records(lines, encoding, separator)
    first = next(records, None)
    if first is None:
        return
    line, _, header = first
    if isinstance(header, Refusal):
        raise UserError(
            f"cannot read the header: {header.detail}", f"{file}:{line}", "the first row names the columns"
        )
    places = {field: _place(name, header, f"{file}:{line}") for field, name in columns.items()}
    if not columns:
        places = {name.strip(): place for place, name in enumerate(header)}
    elif all(isinstance(column, int) for column in columns.values()):
        records = chain([first], records)
    for line, offset, cells in records:
        if isinstance(cells, Refusal):
            yield line, offset, cells
        elif len(cells) != len(header):
            detail = f"{len(cells)} columns, the first line has {len(header)}"
            yield line, offset, Refusal(ReasonCode.WRONG_COLUMN_COUNT, detail)
        else:
            yield line, offset, {field: cells[place] for field, place in places.items()}


def read_records(lines: Iterator[Line], encoding: str, separator: str) -> Iterator[Record]:
    """Yield every record, the header included. Blank lines are not records.

    If a quote is never closed, only the line that opened it is refused: reading goes on with the next line.
    """
    csv.field_size_limit(
        4 * MAX_LINE_BYTES
    )  # the module's only way; its own 128 KiB would refuse a long document
    feed = _Feed(lines, encoding)
    reader = csv.reader(feed, delimiter=separator)
    while True:
        feed.start_record()
        cells: list[str] | Refusal
        try:
            cells = next(reader)
            if feed.at_end:
                cells = UNCLOSED
        except StopIteration:
            return
        except _RecordTooLong:
            cells = UNCLOSED
        except _LineTooLong:
            cells = TOO_LONG
        except csv.Error:
            cells = Refusal(ReasonCode.WRONG_COLUMN_COUNT, "a carriage return stands outside quotes")
        if feed.is_blank():
            continue
        number, offset = feed.place()
        if cells is UNCLOSED:
            feed.take_back()
        yield number, offset, feed.refusal or cells


class _RecordTooLong(Exception):
    """The record under way is longer than any real one."""


class _LineTooLong(Exception):
    """The record's only line is too long to be held."""


class _Feed:
    """Decoded lines for csv.reader; those of the record under way are held, so that they can be read anew."""

    def __init__(self, lines: Iterator[Line], encoding: str):
        self._lines, self._encoding = lines, encoding
        self._again: deque[Line] = deque()
        self.start_record()

    def start_record(self) -> None:
        self._held: list[Line] = []
        self._held_bytes = 0
        self.refusal: Refusal | None = None
        self.at_end = False

    def __iter__(self) -> "_Feed":
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._lines, None)
        if line is None:
            self.at_end = True
            raise StopIteration
        raw = line[2]
        if self._held and (
            raw is None or len(self._held) >= MAX_RECORD_LINES or self._held_bytes + len(raw) > MAX_LINE_BYTES
        ):
            self._again.appendleft(line)
            raise _RecordTooLong
        self._held.append(line)
        if raw is None:
            raise _LineTooLong
        self._held_bytes += len(raw) + 1
        text = decode(raw, self._encoding)
        if isinstance(text, Refusal):
            self.refusal = text
            text = raw.decode(self._encoding, "replace")
        return text + "\n"

    def place(self) -> tuple[int, int]:
        number, offset, _, _ = self._held[0]
        return number, offset

    def is_blank(self) -> bool:
        return len(self._held) == 1 and self._held[0][2] is not None and not self._held[0][2].strip(b" \r")

    def take_back(self) -> None:
        """Have all lines of the record but its first read again."""
        self._again.extendleft(reversed(self._held[1:]))
        self._held = self._held[:1]
        if self.refusal and isinstance(decode(self._held[0][2] or b"", self._encoding), str):
            self.refusal = None  # it was about a later line


def _place(name: str | int, header: list[str], where: str) -> int:
    """Index of the column of this name, or of this number."""
    if isinstance(name, int):
        if name > len(header):
            what = f"there is no column {name}: the first line has {len(header)}"
            raise UserError(what, where, "count the columns from 1")
        return name - 1
    found = [index for index, cell in enumerate(header) if cell.strip() == name]
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(
            f"the column '{name}' is there {len(found)} times", where, "rename the others in the header"
        )
    if not all(_NAME.fullmatch(cell.strip()) for cell in header):
        fix = (
            f"the first line does not look like a header: put one with a column '{name}' in front,"
            " or give every column as a number (columns: {text: 2, ...})"
        )
        raise UserError(f"there is no column '{name}'", where, fix)
    names = [cell.strip() for cell in header]
    near = difflib.get_close_matches(name.lower(), [known.lower() for known in names], 1)
    hint = f"did you mean '{next(known for known in names if known.lower() == near[0])}'? " if near else ""
    raise UserError(
        f"there is no column '{name}'",
        where,
        f"{hint}map it with columns (or group); known: {', '.join(names[:20])}",
    )
