"""Read a shard row by row: every row with the line it starts on, whatever the format."""

import json
from collections.abc import Iterator
from typing import Any

import orjson

from schemas.spec.records import ReasonCode
from tasks.data.read.conll import read_conll
from tasks.data.read.encoding import newline_is_a_byte
from tasks.data.read.json_document import read_json
from tasks.data.read.rows import TOO_LONG, Refusal, Row, decode, pick
from tasks.data.read.shards import Shard
from tasks.data.read.stream import MAX_LINE_BYTES, Line, read_blocks, split_lines, transcode
from tasks.data.read.table import read_table


def read_rows(shard: Shard) -> Iterator[Row]:
    """Yield every row of a shard in the order of the file. Blank lines are not rows.

    Fields are those of the record (`text`, `label`, ...), and `group` if the source names one.

    Raises:
        UserError: the file cannot be read as a whole (missing, damaged, no such column, not JSON).
    """
    columns = shard.columns if shard.group is None else {**shard.columns, "group": shard.group}
    blocks, encoding = read_blocks(shard.file, shard.start, shard.stop), shard.encoding
    exact = newline_is_a_byte(encoding)
    if not exact:
        blocks, encoding = transcode(shard.file, blocks, encoding), "utf-8"
    mark = "\ufeff".encode(encoding) if encoding in ("utf-8", "gb18030") and shard.start == 0 else b""
    lines = split_lines(blocks, shard.first_line, shard.start, mark)
    match shard.format:
        case "jsonl":
            rows = _read_jsonl(lines, encoding, columns)
        case "json":
            rows = read_json(shard.file, blocks, encoding, columns)
        case "conll":
            rows = read_conll(shard.file, lines, encoding, columns)
        case "csv" | "tsv":
            rows = read_table(shard.file, lines, encoding, "," if shard.format == "csv" else "\t", columns)
        case "txt" if shard.document == "paragraph":
            rows = _read_paragraphs(lines, encoding)
        case _:
            rows = _read_text_lines(lines, encoding)
    return rows if exact else ((line, None, fields) for line, _, fields in rows)


def parse_json(raw: bytes | str) -> Any:
    """Parse one JSON value by RFC 8259: NaN, Infinity and lone surrogates in raw bytes are refused.

    Escaped lone surrogates, which the grammar allows, are kept for the caller to judge.

    Raises:
        ValueError: not JSON, or nested too deeply.
    """
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        if "\\u" not in raw if isinstance(raw, str) else b"\\u" not in raw:
            raise
        try:
            text = raw if isinstance(raw, str) else raw.decode()
            return json.loads(text, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            raise error from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _read_jsonl(lines: Iterator[Line], encoding: str, columns: dict[str, str | int]) -> Iterator[Row]:
    loads = orjson.loads
    utf8 = encoding == "utf-8"
    for number, offset, raw, ended in lines:
        if raw is None:
            yield number, offset, TOO_LONG
        elif raw and not raw.isspace():
            text = raw if utf8 else decode(raw, encoding)
            if isinstance(text, Refusal):
                yield number, offset, text
                continue
            try:
                value = loads(text)
            except orjson.JSONDecodeError:
                yield number, offset, _parse_odd(raw, text, ended, encoding, columns)
            else:
                yield number, offset, pick(value, columns)


def _parse_odd(
    raw: bytes, text: bytes | str, ended: bool, encoding: str, columns: dict[str, str | int]
) -> dict[str, Any] | Refusal:
    """Say what is wrong with a line that the fast parser refused; it may yet be JSON."""
    try:
        return pick(parse_json(text), columns)
    except ValueError as error:
        undecodable = decode(raw, encoding)
        if not ended and (isinstance(undecodable, str) or _cut_inside_a_character(raw)):
            return Refusal(ReasonCode.TRUNCATED_LINE, "the file ends inside this line")
        if isinstance(undecodable, Refusal):
            return undecodable
        column = getattr(error, "colno", 0)
        return Refusal(ReasonCode.MALFORMED_JSON, f"not JSON at column {column}")


def _cut_inside_a_character(raw: bytes) -> bool:
    """Whether UTF-8 bytes stop inside their last character and are fine up to there."""
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
    return False


def _read_text_lines(lines: Iterator[Line], encoding: str) -> Iterator[Row]:
    for number, offset, raw, _ in lines:
        if raw is None:
            yield number, offset, TOO_LONG
        elif raw and not raw.isspace():
            text = decode(raw.removesuffix(b"\r"), encoding)
            yield number, offset, text if isinstance(text, Refusal) else {"text": text}


def _read_paragraphs(lines: Iterator[Line], encoding: str) -> Iterator[Row]:
    """A paragraph is a block of lines between blank lines."""
    held = bytearray()  # one buffer: as many small objects, short lines would take ten times the memory
    size = start = start_offset = 0
    for number, offset, raw, _ in lines:
        if raw is not None and (not raw or raw.isspace()):
            if size:
                yield start, start_offset, _paragraph(held, size, encoding)
            held, size = bytearray(), 0
            continue
        if not size:
            start, start_offset = number, offset
        size += MAX_LINE_BYTES + 1 if raw is None else len(raw) + 1
        if raw is None or size > MAX_LINE_BYTES:
            held.clear()
        else:
            held += raw.removesuffix(b"\r") + b"\n"
    if size:
        yield start, start_offset, _paragraph(held, size, encoding)


def _paragraph(held: bytearray, size: int, encoding: str) -> dict[str, Any] | Refusal:
    if size > MAX_LINE_BYTES:
        return TOO_LONG
    text = decode(bytes(held).removesuffix(b"\n"), encoding)
    return text if isinstance(text, Refusal) else {"text": text}
