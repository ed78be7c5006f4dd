"""Tell by which scheme each file marks its entities, from all of its tags: a first reading of tagged files."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from schemas.spec.records import RECORDS
from tasks.data.read.entity_tags import count_marks, tell_scheme
from tasks.data.read.reader import read_rows
from tasks.data.read.rows import Refusal
from tasks.data.read.shards import Shard
from tasks.storage.workers import ShardMap


def with_schemes(shards: Sequence[Shard], map_shards: ShardMap) -> list[Shard]:
    """The same shards, each with the scheme of its whole file; shards of other records as they are."""
    if not any(RECORDS[shard.record].has_scheme for shard in shards):
        return list(shards)
    marks: dict[str, Counter[str]] = {}
    for shard, found in zip(shards, map_shards(count_shard, shards), strict=True):
        marks.setdefault(shard.file, Counter()).update(found)
    return [replace(shard, scheme=tell_scheme(marks[shard.file])) for shard in shards]


def count_shard(shard: Shard) -> Counter[str]:
    """Marks of the sentences of one shard that have the right shape."""
    rows = (fields for _, _, fields in read_rows(shard) if not isinstance(fields, Refusal))
    tags = (fields.get("tags") for fields in rows)
    return count_marks(t for t in tags if isinstance(t, list) and all(isinstance(tag, str) for tag in t))
