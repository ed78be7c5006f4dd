"""The kinds of rule a contract can hold, and what each accepts: row counts and Great Expectations rules on a column.

Only expectations whose per-shard counts add up are known. Uniqueness is not one of them: exact duplicates are found
over the whole dataset, removed and counted by the duplicate step.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

ROW_COUNT = "expect_table_row_count_to_be_between"
NOT_NULL = "expect_column_values_to_not_be_null"
ROW_RULES: dict[str, dict[str, type]] = {
    "expect_column_value_lengths_to_be_between": {"min_value": int, "max_value": int},
    "expect_column_values_to_match_regex": {"regex": str},
    "expect_column_values_to_not_match_regex": {"regex": str},
    "expect_column_values_to_be_in_set": {"value_set": list},
    "expect_column_values_to_not_be_in_set": {"value_set": list},
}
"""Great Expectations type -> its settings. Each takes `mostly` too: the share of rows that must keep the rule."""
NAMES: dict[type, str] = {int: "a whole number", str: "text", list: "a list", float: "a number"}

OPERATORS = (
    "mustBe",
    "mustBeGreaterThan",
    "mustBeGreaterOrEqualTo",
    "mustBeLessThan",
    "mustBeLessOrEqualTo",
    "mustBeBetween",
)
DUPLICATES = "remove it: exact duplicates are removed and counted by the duplicate step"
REQUIRED = "write `required: true` on the property"
METRICS_ELSEWHERE = {
    "nullValues": REQUIRED,
    "missingValues": REQUIRED,
    "invalidValues": "write a custom rule, such as expect_column_values_to_match_regex",
    "duplicateValues": DUPLICATES,
}


class Wrong(Protocol):
    """Note a mistake of the rule at hand: what, its remedy, and the key (below the rule) it is at."""

    def __call__(self, what: str, fix: str, *key: str) -> None: ...


def read_row_count(item: Mapping[str, Any], column: str | None, wrong: Wrong) -> tuple[str, dict[str, Any]]:
    """A `type: library` item as an expectation and its kwargs; mistakes go to `wrong`."""
    metric = item.get("metric")
    if metric in METRICS_ELSEWHERE:
        wrong(f"the metric {metric} is not run here", METRICS_ELSEWHERE[metric], "metric")
        return ROW_COUNT, {}
    if metric != "rowCount":
        fix = f"{nearest(str(metric), ['rowCount'])}known: rowCount"
        wrong(f"there is no metric '{metric}'", fix, "metric")
        return ROW_COUNT, {}
    if column is not None:
        wrong("rowCount speaks of the table, not of a property", "move it to schema.0.quality", "metric")
    if item.get("unit", "rows") != "rows":
        wrong(f"unit '{item['unit']}' is not a count of rows", "write unit: rows, or leave it out", "unit")
    given = [key for key in OPERATORS if key in item]
    if len(given) != 1:
        wrong(f"{len(given)} bounds are given", f"write exactly one of {', '.join(OPERATORS)}")
        return ROW_COUNT, {}
    return ROW_COUNT, _bounds(given[0], item[given[0]], wrong)


def _bounds(operator: str, value: Any, wrong: Wrong) -> dict[str, Any]:
    pair = operator == "mustBeBetween"
    numbers = value if pair and isinstance(value, list) and len(value) == 2 else [value]
    if len(numbers) != 1 + pair or any(type(number) is not int or number < 0 for number in numbers):
        wrong(
            f"{operator} is not a count of rows",
            f"write {operator}: {'[20, 1000]' if pair else 20}",
            operator,
        )
        return {}
    low, high = numbers[0], numbers[-1]
    _check_order({"min_value": low, "max_value": high}, wrong)
    return {
        "mustBe": {"min_value": low, "max_value": low},
        "mustBeGreaterThan": {"min_value": low + 1},
        "mustBeGreaterOrEqualTo": {"min_value": low},
        "mustBeLessThan": {"max_value": high - 1},
        "mustBeLessOrEqualTo": {"max_value": high},
        "mustBeBetween": {"min_value": low, "max_value": high},
    }[operator]


def read_expectation(item: Mapping[str, Any], column: str | None, wrong: Wrong) -> tuple[str, dict[str, Any]]:
    """A `type: custom` item as an expectation and its kwargs; mistakes go to `wrong`."""
    engine = str(item.get("engine"))
    if re.sub("[-_ ]", "", engine.lower()) != "greatexpectations":
        wrong(f"the engine '{engine}' is not run here", "write engine: greatExpectations", "engine")
    if column is None:
        wrong("a custom rule speaks of a property", "move it below one; a row count is `type: library`")
    found = item.get("implementation")
    if not isinstance(found, dict):
        fix = "write `implementation: {type: ..., kwargs: {...}}`"
        wrong("implementation is not a mapping", fix, "implementation")
        return "", {}
    for key in set(found) - {"type", "kwargs"}:
        wrong(f"implementation.{key} has no effect", "remove it; known: type, kwargs", "implementation", key)
    kind, kwargs = str(found.get("type")), found.get("kwargs", {})
    if kind not in ROW_RULES:
        wrong(f"there is no rule type '{kind}'", _unknown_type(kind), "implementation", "type")
        return "", {}
    if not isinstance(kwargs, dict):
        wrong("kwargs is not a mapping", "write `kwargs: {...}`", "implementation", "kwargs")
        return "", {}
    _check_kwargs(kind, kwargs, wrong)
    return kind, {"column": column, **kwargs}


def _unknown_type(given: str) -> str:
    if "unique" in given:
        return DUPLICATES
    if given == NOT_NULL:
        return REQUIRED
    if given == ROW_COUNT:
        return "write `type: library`, `metric: rowCount` at schema.0.quality"
    return f"{nearest(given, ROW_RULES)}known: {', '.join(ROW_RULES)}"


def _check_kwargs(kind: str, kwargs: dict[str, Any], wrong: Wrong) -> None:
    for key, value in kwargs.items():
        problem = _problem(kind, key, value)
        if problem:
            wrong(*problem, "implementation", "kwargs", key)
    if not any(key in kwargs for key in ROW_RULES[kind]):
        wrong(f"{kind} checks nothing", f"add {' or '.join(ROW_RULES[kind])}", "implementation", "kwargs")
    _check_order(kwargs, wrong)


def _problem(kind: str, key: str, value: Any) -> tuple[str, str] | None:
    """What is wrong with one setting, and its remedy."""
    known = ROW_RULES[kind] | {"mostly": float}
    if key not in known:
        return f"{key} is not a setting of {kind}", f"{nearest(key, known)}known: {', '.join(known)}"
    accepted: Any = (int, float) if known[key] is float else known[key]
    if isinstance(value, bool) or not isinstance(value, accepted):
        return f"{key} has the wrong type", f"write {NAMES[known[key]]}"
    if key == "mostly" and not 0 < value <= 1:
        return f"mostly is {value}", "write the share of rows that must keep the rule: above 0, at most 1"
    if key in ("min_value", "max_value") and value < 0:
        return f"{key} is {value}", "write 0 or more characters"
    if key == "value_set" and (not value or any(not isinstance(entry, str) for entry in value)):
        return "value_set is not a list of texts", "list at least one text; quote numbers"
    return _regex_problem(value) if key == "regex" else None


def _regex_problem(pattern: str) -> tuple[str, str] | None:
    """Accept what both Python and RE2 read: RE2 runs it, in time linear in the text."""
    import pyarrow
    import pyarrow.compute

    no_text = pyarrow.nulls(1, pyarrow.string())  # any value from Python would import pandas
    try:
        re.compile(pattern)
        pyarrow.compute.match_substring_regex(no_text, pattern)
    except (re.error, pyarrow.ArrowInvalid) as error:
        reason = str(error).splitlines()[0].removeprefix("Invalid regular expression: ")
        fix = "write RE2 syntax: no look-around, no back-references; in YAML, quote it with '...'"
        return f"not a regular expression RE2 can run: {reason}", fix
    return None


def _check_order(kwargs: Mapping[str, Any], wrong: Wrong) -> None:
    low, high = kwargs.get("min_value"), kwargs.get("max_value")
    if isinstance(low, int) and isinstance(high, int) and low > high:
        wrong(f"no number is at least {low} and at most {high}", "swap the two bounds")


def nearest(given: str, known: Iterable[str]) -> str:
    """`did you mean X? `, or nothing."""
    near = difflib.get_close_matches(given, list(known), 1, cutoff=0.55)
    return f"did you mean {near[0]}? " if near else ""
