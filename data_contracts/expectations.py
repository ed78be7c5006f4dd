"""Compile the rules of a contract to Great Expectations: plain dictionaries, the same bytes every time."""

from typing import Any

from data_contracts.rules import Rule


def expectation(rule: Rule) -> dict[str, Any]:
    """`{type, kwargs, severity, description, meta}`; `meta.rule` names the rule in Great Expectations' results."""
    return {
        "type": rule.type,
        "kwargs": dict(rule.kwargs),
        "severity": rule.severity,
        "description": rule.description,
        "meta": {"rule": rule.id, "severity": rule.severity},
    }
