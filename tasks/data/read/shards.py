"""Cut a source's files into shards: byte ranges of whole lines that are read independently of one another."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import UserError
from schemas.reading.load import source_files
from schemas.spec.records import RECORDS, RecordKind
from schemas.spec.source_rules import told_format
from schemas.spec.sources import Source
from tasks.data.read.encoding import detect_encoding, newline_is_a_byte, resolve_encoding
from tasks.data.read.entity_tags import Scheme
from tasks.data.read.stream import compression, read_blocks


@dataclass(frozen=True)
class Shard:
    """A byte range of one file (whole lines), or a whole file where a format cannot be cut."""

    file: str
    format: str
    document: str
    """txt only: `line` or `paragraph`."""
    encoding: str
    columns: dict[str, str | int]
    """Field of the record -> column or key that holds it; a number (from 1) where there is no header. Empty for
    instructions of a layout that `layouts.with_layouts` is to tell."""
    group: str | int | None
    ordinal: int
    """Place in the order of all shards of the plan."""
    start: int
    """First byte."""
    stop: int | None
    """Byte after the last; None: to the end."""
    first_line: int
    """1-based number of the line at `start`."""
    record: RecordKind = "text"
    """What one row is."""
    labels: tuple[str, ...] | None = None
    """Labels (or entity types) that a row may have; None: any."""
    scheme: Scheme = "IOB2"
    """How the file marks entities (tagged tokens only); told by `schemes.with_schemes`."""


def plan_shards(
    source: Source,
    files: Sequence[str],
    first_ordinal: int = 0,
    shard_bytes: int = 64 * 2**20,
    record: RecordKind = "text",
    labels: tuple[str, ...] | None = None,
) -> list[Shard]:
    """Shards of some files of a source, in the order of file and place. An empty file is one empty shard.

    Plain txt (by line) and jsonl files are cut into about `shard_bytes`; other files are one shard each.

    Raises:
        UserError: a file cannot be read, or the encoding is unknown.
    """
    shards: list[Shard] = []
    for file in files:
        encoding = (
            resolve_encoding(source.encoding, source.path) if source.encoding else detect_encoding(file)
        )
        form = told_format(source.model_copy(update={"path": file}))
        cut = (
            compression(file) is None
            and (form == "jsonl" or (form == "txt" and source.document == "line"))
            and newline_is_a_byte(encoding)
        )
        for start, stop, first_line in _cut(file, shard_bytes) if cut else [(0, None, 1)]:
            shards.append(
                Shard(
                    file=file,
                    format=form,
                    document=source.document,
                    encoding=encoding,
                    columns={
                        field: column
                        for field in RECORDS[record].fields()
                        if (column := getattr(source.columns, field)) is not None
                    },
                    group=source.group,
                    ordinal=first_ordinal + len(shards),
                    start=start,
                    stop=stop,
                    first_line=first_line,
                    record=record,
                    labels=labels,
                )
            )
    return shards


def find_files(source: Source) -> list[str]:
    """The files of a source, in their order.

    Raises:
        UserError: none matches, or a name cannot be printed.
    """
    try:
        files = source_files(source)
    except KeyError as error:
        name = error.args[0]
        what = f"the path names the environment variable {name}, which is not set"
        raise UserError(what, source.path, f"run: export {name}=...") from None
    if not files:
        raise UserError(
            "no file matches", source.path, "name an existing file or a glob such as data/*.jsonl"
        )
    return files


def size_of(file: str) -> int:
    """Bytes of a file.

    Raises:
        UserError: it is gone since it was found.
    """
    try:
        return Path(file).stat().st_size
    except OSError as error:
        fix = "check path and permissions, and that nothing removes it meanwhile"
        raise UserError(f"cannot read the file: {error.strerror}", file, fix) from None


def _cut(file: str, shard_bytes: int) -> Iterator[tuple[int, int, int]]:
    """Yield (start, stop, first line): each cut falls after the first newline at or past `shard_bytes`."""
    size = size_of(file)
    start, line = 0, 1
    if size > shard_bytes:
        position, lines = 0, 1  # of the block
        for block in read_blocks(file):
            seen = 0
            while (newline := block.find(b"\n", max(seen, start + shard_bytes - 1 - position))) >= 0:
                lines += block.count(b"\n", seen, newline + 1)
                seen = newline + 1
                yield start, position + seen, line
                start, line = position + seen, lines
            lines += block.count(b"\n", seen)
            position += len(block)
    if start < size or size == 0:
        yield start, size, line
