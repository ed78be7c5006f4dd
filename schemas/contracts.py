"""Data that the contract gate exchanges between shards and the merged report."""

from schemas.artifacts import Severity
from schemas.base import Schema


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
