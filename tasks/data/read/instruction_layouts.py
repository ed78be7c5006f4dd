"""Tell by its keys which of the layouts in the wild a file of instructions has: a look at the first rows of each."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

from schemas.errors import UserError
from schemas.spec.records import RECORDS, Record
from tasks.data.read.reader import read_rows
from tasks.data.read.rows import Refusal
from tasks.data.read.shards import Shard

ROWS = 100
"""Rows looked at; a key counts as a column if more than half of those that are objects have it."""
AS_GIVEN = "columns as given"


def with_layouts(shards: Sequence[Shard]) -> tuple[list[Shard], dict[str, str]]:
    """The same shards, each with the columns of its file; and file -> its layout, in words.

    Shards of other records, and those whose columns are given, are as they were.

    Raises:
        UserError: a file has none of the layouts, or more than one.
    """
    columns: dict[str, dict[str, str | int]] = {}
    names: dict[str, str] = {}
    for shard in shards:
        record = RECORDS[shard.record]
        if not record.layouts or shard.file in names:
            continue
        if shard.columns:
            names[shard.file], columns[shard.file] = AS_GIVEN, shard.columns
        else:
            keys = _keys(shard)
            name = _tell(record, keys, shard.file)
            layout, required = record.layouts[name], record.required()
            # a table without a column cannot be asked for it; a row of JSON may be without the key
            optional = keys if shard.format in ("csv", "tsv") else layout.values()
            mapped = {field: key for field, key in layout.items() if field in required or key in optional}
            names[shard.file] = f"{name} ({', '.join(f'{key} as {field}' for field, key in mapped.items())})"
            columns[shard.file] = dict(mapped)
    found = [
        replace(shard, columns=columns[shard.file]) if shard.file in columns else shard for shard in shards
    ]
    return found, names


def _keys(shard: Shard) -> set[str]:
    """Keys of a file: those that most of its first rows have."""
    rows = islice(read_rows(replace(shard, columns={}, group=None)), ROWS)
    objects = [fields for _, _, fields in rows if not isinstance(fields, Refusal)]
    counts = Counter(key for fields in objects for key in fields)
    return {key for key, count in counts.items() if 2 * count > len(objects)}


def _tell(record: type[Record], keys: set[str], file: str) -> str:
    """The only layout that these keys have; of a file without a readable row, whichever."""
    if not keys:
        return next(iter(record.layouts))
    telling = {
        name: [keys_of[field] for field in record.required()] for name, keys_of in record.layouts.items()
    }
    fitting = [name for name, needed in telling.items() if keys.issuperset(needed)]
    if len(fitting) == 1:
        return fitting[0]
    known = ", ".join(f"{name} ({', '.join(needed)})" for name, needed in telling.items())
    shown = ", ".join(sorted(key[:40] for key in keys)[:20])
    what = f"has more than one layout ({', '.join(fitting)})" if fitting else "has no layout that is known"
    raise UserError(
        f"the file {what}: its keys are {shown}",
        file,
        f"map the keys, such as columns: {{{', '.join(f'{field}: KEY' for field in record.fields())}}}"
        + (f"; known layouts: {known}" if not fitting else ""),
    )
