"""Read the rules of a contract, in the order of the file, and every mistake in them."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, cast

from data_contracts.rule_kinds import (
    NOT_NULL,
    OPERATORS,
    ROW_COUNT,
    nearest,
    read_expectation,
    read_row_count,
)
from schemas.base import Schema
from schemas.errors import UserError
from schemas.reading.yaml_reader import Document, Path
from schemas.results.artifacts import Severity

SEVERITIES: tuple[Severity, ...] = ("critical", "warning", "info")
COMMON = (
    "id",
    "name",
    "description",
    "severity",
    "type",
    "dimension",
    "businessImpact",
    "tags",
    "authoritativeDefinitions",
)
KEYS = {
    "library": (*COMMON, "metric", "unit", *OPERATORS),
    "custom": (*COMMON, "engine", "implementation"),
}
"""Type of a quality item -> the keys that are read; any other would have no effect."""


class Rule(Schema):
    """One rule of a contract, as Great Expectations runs it."""

    id: str
    description: str
    severity: Severity
    type: str
    """Great Expectations type."""
    kwargs: dict[str, Any]
    allowed_ratio: float = 0.0
    """Share of rows that may break it."""
    place: str
    """`file:line` where the contract states it."""

    @property
    def is_table_rule(self) -> bool:
        """Decided on the whole dataset, not row by row."""
        return self.type == ROW_COUNT


def read_rules(document: Document) -> tuple[list[Rule], list[UserError]]:
    """Compile every rule of a contract; report every mistake in them."""
    errors: list[UserError] = []
    rules: list[Rule | None] = []
    for at, table in _mappings(document.value.get("schema"), ("schema",)):
        for path, item in _mappings(table.get("quality"), (*at, "quality")):
            rules.append(_read(item, path, None, document, errors))
        for here, column in _mappings(table.get("properties"), (*at, "properties")):
            name = str(column.get("name"))
            if column.get("required") is True:
                rules.append(_required(name, document.place((*here, "required"))))
            for path, item in _mappings(column.get("quality"), (*here, "quality")):
                rules.append(_read(item, path, name, document, errors))
    found = [rule for rule in rules if rule is not None]
    return found, errors + _repeated(found)


def _mappings(value: Any, path: Path) -> list[tuple[Path, dict[str, Any]]]:
    items = enumerate(value) if isinstance(value, list) else ()
    return [((*path, index), item) for index, item in items if isinstance(item, dict)]


def _required(column: str, place: str) -> Rule:
    return Rule(
        id=f"{column}.required",
        description=f"every row has {column}",
        severity="critical",
        type=NOT_NULL,
        kwargs={"column": column},
        place=place,
    )


def _repeated(rules: Sequence[Rule]) -> list[UserError]:
    first: dict[str, str] = {}
    errors = []
    for rule in rules:
        if rule.id in first:
            fix = f"rename one; the first is at {first[rule.id]}"
            errors.append(UserError(f"the rule id '{rule.id}' is given twice", rule.place, fix))
        first.setdefault(rule.id, rule.place)
    return errors


def _read(
    item: dict[str, Any], path: Path, column: str | None, document: Document, errors: list[UserError]
) -> Rule | None:
    """One quality item as a rule, or None with its mistakes appended to `errors`."""
    name = f"the rule '{item['id']}'" if item.get("id") else "a rule"
    wrongs: list[UserError] = []

    def wrong(what: str, fix: str, *key: str) -> None:
        wrongs.append(UserError(f"{name}: {what}", document.place((*path, *key)), fix))

    kind = item.get("type", "library" if "metric" in item else None)
    if kind not in KEYS:
        fix = "write type: custom (a Great Expectations rule) or type: library (rowCount)"
        errors.append(UserError(f"{name}: type '{kind}' is never run", document.place((*path, "type")), fix))
        return None
    for key in item:
        if key not in KEYS[kind]:
            wrong(f"{key} has no effect here", f"remove it; read here: {', '.join(KEYS[kind])}", key)
    for key in ("id", "description", "severity"):
        if not isinstance(item.get(key), str) or not item[key].strip():
            wrong(f"{key} is missing", f"add `{key}: ...`")
    severity = item.get("severity")
    if isinstance(severity, str) and severity.strip() and severity not in SEVERITIES:
        fix = f"{nearest(severity, SEVERITIES)}allowed: {', '.join(SEVERITIES)}"
        wrong(f"severity cannot be '{severity}'", fix, "severity")
    expectation, kwargs = (read_row_count if kind == "library" else read_expectation)(item, column, wrong)
    errors += wrongs
    if wrongs:
        return None
    return Rule(
        id=item["id"],
        description=item["description"].strip(),
        severity=cast(Severity, severity),
        type=expectation,
        kwargs=kwargs,
        allowed_ratio=float(1 - Decimal(str(kwargs.get("mostly", 1)))),  # in binary, 1 - 0.99 is not 0.01
        place=document.place(path),
    )
