"""Compile a contract to Great Expectations: plain dictionaries, the same bytes every time."""

import json
from typing import Any

from data_contracts.contract import Contract
from data_contracts.rules import Rule


def expectations(contract: Contract) -> list[dict[str, Any]]:
    """One dictionary per rule, in the contract's order, as `gx.ExpectationSuite(expectations=...)` takes them."""
    return [expectation(rule) for rule in contract.rules]


def expectation(rule: Rule) -> dict[str, Any]:
    """`{type, kwargs, severity, description, meta}`; `meta.rule` names the rule in Great Expectations' results."""
    return {
        "type": rule.type,
        "kwargs": dict(rule.kwargs),
        "severity": rule.severity,
        "description": rule.description,
        "meta": {"rule": rule.id, "severity": rule.severity},
    }


def suite_json(contract: Contract) -> str:
    """The contract as a suite that Great Expectations can load on its own; it has no random ids."""
    suite = {
        "name": contract.name,
        "expectations": expectations(contract),
        "meta": {"contract": contract.name, "version": contract.version, "sha256": contract.sha256},
    }
    return json.dumps(suite, ensure_ascii=False, indent=2, sort_keys=True) + "\n"
