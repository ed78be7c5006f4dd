"""Validate the rows of shards: the good ones to parquet, the others to quarantine with their reason."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from schemas.errors import UserError
from schemas.results.artifacts import RowCounts
from tasks.data.read.reader import read_rows
from tasks.data.read.rows import Refusal
from tasks.data.read.shards import Shard
from tasks.data.validate.checks import make_check
from tasks.data.validate.parquet_parts import PartsWriter


@dataclass(frozen=True)
class ReadRows:
    """What became of some shards."""

    parts: tuple[str, ...]
    """Names of the parquet files in the folder, in the order of the rows; none if no row was accepted."""
    counts: tuple[RowCounts, ...]
    """Of each shard."""


def validate_shards(shards: Sequence[Shard], folder: Path) -> ReadRows:
    """Write `shard-*.parquet` (columns: parts.schema_of) and `quarantine-*.jsonl` into `folder`, numbered as the first.

    Raises:
        UserError: a file cannot be read to its end; the rows before that place are written all the same.
    """
    number = f"{shards[0].ordinal:05d}"
    with (
        PartsWriter(folder, f"shard-{number}", shards[0].record) as parts,
        _quarantine(folder / f"quarantine-{number}.jsonl") as refuse,
    ):
        counts = tuple(_validate(shard, parts, refuse) for shard in shards)
    return ReadRows(parts.names, counts)


def _validate(shard: Shard, parts: PartsWriter, refuse: Callable[..., None]) -> RowCounts:
    check = make_check(shard)
    accepted, reasons = 0, Counter[str]()
    parts.begin(shard.file)
    try:
        for line, offset, fields in read_rows(shard):
            row = fields if isinstance(fields, Refusal) else check(fields)
            if isinstance(row, Refusal):
                reasons[row.code] += 1
                refuse(shard.file, line, offset, row)
            else:
                parts.add(line, row.text, row.group, row.extra)
                accepted += 1
    except UserError as error:
        rows = accepted + reasons.total()
        where = f"{error.where}, after {rows:,} rows" if rows else error.where
        raise UserError(error.what, where, error.fix) from None
    quarantined = reasons.total()
    return RowCounts(
        file=shard.file,
        read=accepted + quarantined,
        accepted=accepted,
        quarantined=quarantined,
        reasons=dict(sorted(reasons.items())),
    )


@contextmanager
def _quarantine(path: Path) -> Iterator[Callable[..., None]]:
    """Yield a function that writes one line a refused row; the file exists only if there is one."""
    path.unlink(missing_ok=True)  # of an earlier attempt
    out: IO[str] | None = None

    def refuse(file: str, line: int, offset: int | None, refusal: Refusal) -> None:
        nonlocal out
        if out is None:
            out = path.open("w", encoding="utf-8")
        entry = {
            "file": file,
            "line": line,
            "code": refusal.code,
            "detail": refusal.detail,
            "byte_offset": offset,
        }
        out.write(json.dumps(entry, ensure_ascii=False) + "\n")

    try:
        yield refuse
    finally:
        if out is not None:
            out.close()
