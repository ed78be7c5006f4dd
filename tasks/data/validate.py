"""Validate a shard's rows: the good ones to parquet, the others to quarantine with their reason."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from schemas.artifacts import FileLedger
from schemas.errors import UserError
from tasks.data.checks import make_check
from tasks.data.parts import PartsWriter
from tasks.data.read import read_rows
from tasks.data.rows import Refusal
from tasks.data.shard import Shard


@dataclass(frozen=True)
class ShardResult:
    """What became of one shard."""

    shard: Shard
    parts: tuple[str, ...]
    """Names of the parquet files in the folder, in the order of the rows; none if no row was accepted."""
    ledger: FileLedger
    """Counts of this shard alone."""


def validate_shard(shard: Shard, folder: Path) -> ShardResult:
    """Write `shard-*.parquet` (columns: parts.schema_of) and `quarantine-*.jsonl` into `folder`.

    Raises:
        UserError: the file cannot be read to its end; the rows before that place are written all the same.
    """
    check = make_check(shard)
    accepted, reasons = 0, Counter[str]()
    with (
        PartsWriter(folder, f"shard-{shard.ordinal:05d}", shard.file, shard.record) as parts,
        _quarantine(folder / f"quarantine-{shard.ordinal:05d}.jsonl", shard.file) as refuse,
    ):
        try:
            for line, offset, fields in read_rows(shard):
                row = fields if isinstance(fields, Refusal) else check(fields)
                if isinstance(row, Refusal):
                    reasons[row.code] += 1
                    refuse(line, offset, row)
                else:
                    parts.add(line, row.text, row.group, row.extra)
                    accepted += 1
        except UserError as error:
            rows = accepted + reasons.total()
            where = f"{error.where}, after {rows:,} rows" if rows else error.where
            raise UserError(error.what, where, error.fix) from None
    quarantined = reasons.total()
    ledger = FileLedger(
        file=shard.file,
        role=shard.role,
        source=shard.source,
        read=accepted + quarantined,
        accepted=accepted,
        quarantined=quarantined,
        reasons=dict(sorted(reasons.items())),
    )
    return ShardResult(shard, parts.names, ledger)


@contextmanager
def _quarantine(path: Path, file: str) -> Iterator[Any]:
    """Yield a function that writes one line a refused row; the file exists only if there is one."""
    path.unlink(missing_ok=True)  # of an earlier attempt
    out: IO[str] | None = None

    def refuse(line: int, offset: int | None, refusal: Refusal) -> None:
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
