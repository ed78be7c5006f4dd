"""Data that the contract gate exchanges between shards and the merged report; what a contract is for."""

from typing import Any

from schemas.base import Schema
from schemas.results.artifacts import Severity
from schemas.spec.records import RECORDS, RecordKind


class ShardRule(Schema):
    """One rule on one shard: exact counts that add up."""

    rule: str
    description: str
    severity: Severity
    checked: int
    unexpected: int
    allowed_ratio: float
    minimum: float | None = None
    maximum: float | None = None
    """Bounds of a table rule (row count); such a rule is decided after merging."""
    places: tuple[str, ...] = ()


class ShardGate(Schema):
    """One shard against a contract."""

    contract: str
    version: str
    rows: int
    rules: tuple[ShardRule, ...]


def told_record(document: Any) -> RecordKind | None:
    """What one row of a contract's dataset is, told by its properties; None if the document is no contract."""
    try:
        names = {column["name"] for column in document["schema"][0]["properties"]}
    except (KeyError, IndexError, TypeError):
        return None
    return next((kind for kind, record in RECORDS.items() if record.told_by in names), "text")
