"""Write accepted rows as parquet, a row group at a time, in parts of bounded size."""

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.spec.records import RECORDS, RecordKind, Stored
from tasks.data.validate.digest import text_digests

PART_BYTES = 16 * 2**20  # what the contract gate holds at once: at 64 it needs 300 MiB more and is no faster
PART_ROWS = 100_000  # or short rows would be held by the million
GROUP_BYTES = 8 * 2**20
GROUP_ROWS = 50_000
BATCH_CHARACTERS = 256 * 2**10  # what is folded and hashed together stays in the processor's cache

SCHEMA = pa.schema(
    [
        pa.field("file", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("line", pa.int64(), nullable=False),  # 1-based, where the record starts
        pa.field("text", pa.large_string(), nullable=False),
        pa.field("group", pa.string()),
        pa.field("digest", pa.binary(16), nullable=False),
        pa.field("bytes", pa.int32(), nullable=False),  # of the text in UTF-8
    ]
)

TYPES: dict[Stored, pa.DataType] = {
    "string": pa.string(), "large_string": pa.large_string(), "list of string": pa.list_(pa.string()), "digest": pa.binary(16),
}  # fmt: skip


def extra_fields(record: RecordKind) -> list[pa.Field]:
    """Columns that a kind of record has besides SCHEMA's."""
    return [pa.field(name, TYPES[kind], nullable=False) for name, kind in RECORDS[record].stored.items()]


def schema_of(record: RecordKind) -> pa.Schema:
    """Columns of a part."""
    return pa.schema([*SCHEMA, *extra_fields(record)])


class PartsWriter:
    """Files `<stem>-<part>.parquet` in a folder, each with about PART_BYTES of text, or PART_ROWS rows."""

    def __init__(self, folder: Path, stem: str, record: RecordKind = "text"):
        self._folder, self._stem, self._file = folder, stem, ""
        self._record, self._schema = record, schema_of(record)
        self._names: list[str] = []
        self._writer: pq.ParquetWriter | None = None
        self._part_bytes = self._part_rows = 0
        self._clear()

    def _clear(self) -> None:
        self._begun: list[tuple[str, int]] = [(self._file, 0)]  # each file, and the first of its rows held
        self._lines: list[int] = []
        self._groups: list[str | None] = []
        self._extras: list[tuple[Any, ...]] = []
        self._new: list[str] = []
        self._new_characters = 0
        self._texts: list[bytes] = []
        self._sizes: list[int] = []
        self._digests: list[bytes] = []
        self._bytes = 0

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the files written so far."""
        return tuple(self._names)

    def begin(self, file: str) -> None:
        """The rows that follow are of this file."""
        self._file = file
        if self._begun[-1][1] == len(self._lines):
            self._begun.pop()  # of the last one there is no row
        self._begun.append((file, len(self._lines)))

    def add(self, line: int, text: str, group: str | int | None, extra: tuple[Any, ...] = ()) -> None:
        """Add one row; `extra` are the values of the columns that its record has besides."""
        self._lines.append(line)
        if extra:
            self._extras.append(extra)
        self._groups.append(None if group is None else str(group))
        self._new.append(text)
        self._new_characters += len(text)
        if self._new_characters >= BATCH_CHARACTERS or len(self._lines) >= GROUP_ROWS:
            self._encode()
            if self._bytes >= GROUP_BYTES or len(self._lines) >= GROUP_ROWS:
                self._flush()

    def _encode(self) -> None:
        """Turn the new texts into bytes and digests, many at a time."""
        texts = [text.encode() for text in self._new]
        self._digests += text_digests(self._new)
        self._texts += texts
        self._sizes += map(len, texts)
        self._bytes += sum(map(len, texts))
        self._new, self._new_characters = [], 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._flush()
        self._close_part()

    def _flush(self) -> None:
        """Write the rows held as one row group."""
        self._encode()
        if not self._lines:
            return
        if self._writer is None:
            name = f"{self._stem}-{len(self._names):03d}.parquet"
            self._names.append(name)
            self._writer = pq.ParquetWriter(
                self._folder / name,
                self._schema,
                compression="none",  # snappy and lz4 cost a third of the rows per second
                use_dictionary=["file", "group"],
                write_statistics=["line", "bytes"],  # those of a text would repeat it
            )
        self._writer.write_table(self._table(), row_group_size=len(self._lines))
        self._part_bytes += self._bytes
        self._part_rows += len(self._lines)
        self._clear()
        if self._part_bytes >= PART_BYTES or self._part_rows >= PART_ROWS:
            self._close_part()

    def _close_part(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer, self._part_bytes, self._part_rows = None, 0, 0

    def _table(self) -> pa.Table:
        rows = len(self._lines)
        sizes = np.array(self._sizes, np.int32)
        ends = np.zeros(rows + 1, np.int64)
        np.cumsum(sizes, out=ends[1:])
        texts = [None, pa.py_buffer(ends), pa.py_buffer(b"".join(self._texts))]
        counts = np.diff([*(start for _, start in self._begun), rows])
        of_file = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        files = pa.DictionaryArray.from_arrays(of_file, pa.array([file for file, _ in self._begun]))
        columns = [
            files,
            pa.array(self._lines, pa.int64()),
            pa.Array.from_buffers(pa.large_string(), rows, texts),
            pa.array(self._groups, pa.string()),
            pa.Array.from_buffers(pa.binary(16), rows, [None, pa.py_buffer(b"".join(self._digests))]),
            pa.array(sizes),
        ]
        fields = extra_fields(self._record)
        columns += [
            pa.array([row[at] for row in self._extras], field.type) for at, field in enumerate(fields)
        ]
        return pa.Table.from_arrays(columns, schema=self._schema)
