"""Run a contract over shards and merge the results exactly.

A shard gives counts only; verdicts are reached once, on the sums. So gating seven uneven shards and merging equals
gating the whole: row counts and ratios mean the dataset, never a shard. Uniqueness cannot be merged from counts and is
left to the duplicate step, which sees every row.
"""

import functools
import os
import threading
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_contracts.contract import Contract, load_contract
from data_contracts.expectations import expectation
from data_contracts.rules import Rule
from schemas.errors import UserError
from schemas.results.artifacts import GateReport, RuleResult
from schemas.results.contracts import ShardGate, ShardRule

if TYPE_CHECKING:
    import pandas as pd

NUM_PLACES = 20
TOGETHER_BYTES = 8 * 2**20
"""Parts of fewer bytes are gated at once; a part of a large file has twice as many (tasks/data/validate/parquet_parts.py)."""
RESULT_FORMAT = {
    "result_format": "SUMMARY",  # COMPLETE, or naming index columns, costs 40 s where 200 000 rows break a rule
    "partial_unexpected_count": NUM_PLACES,
    "return_unexpected_index_query": False,
    "exclude_unexpected_values": True,  # a report names places, never text
}
_one_at_a_time = threading.Lock()  # Great Expectations keeps the last batch in the context


def gate_parquets(name_or_path: str | Path, parts: Sequence[Path]) -> list[ShardGate]:
    """Gate several small parquet parts, each as by itself; see `gate_shards`. Picklable: worker processes call it.

    Raises:
        UserErrors: the contract has mistakes.
        UserError: a rule cannot be evaluated on this data.
    """
    contract = load_contract(name_or_path)
    return gate_shards(contract, [_read(contract, part) for part in parts])


def gate_as_one(name_or_path: str | Path, parts: Sequence[Path]) -> ShardGate:
    """Gate several small parts, one or more, as the one shard that they are together; see `gate_parquets`."""
    contract = load_contract(name_or_path)
    return gate_shard(contract, _together(contract, [_read(contract, part) for part in parts]))


def join_small(sizes: Sequence[int]) -> Iterator[slice]:
    """Cut a list of parts, of so many bytes each, into runs of neighbours that are gated at once."""
    start, held = 0, 0
    for number, size in enumerate(sizes):
        if number > start and held + size > TOGETHER_BYTES:
            yield slice(start, number)
            start, held = number, 0
        held += size
    if start < len(sizes):
        yield slice(start, len(sizes))


def gate_shards(contract: Contract, frames: Sequence["pd.DataFrame"]) -> list[ShardGate]:
    """Count for each of some small shards what `gate_shard` counts, at once where they break nothing.

    Great Expectations takes 0.2 s for a shard, however small. Where a rule speaks of no row of all of them, or of each
    and finds nothing, so it does in every one; otherwise each half is gated in the same way.

    Raises:
        UserError: a rule cannot be evaluated on this data.
    """
    if len(frames) <= 1:
        return [gate_shard(contract, frame) for frame in frames]
    whole = gate_shard(contract, _together(contract, frames))
    if all(not rule.unexpected and rule.checked in (0, whole.rows) for rule in whole.rules):
        return [_share(whole, len(frame)) for frame in frames]
    half = len(frames) // 2
    return gate_shards(contract, frames[:half]) + gate_shards(contract, frames[half:])


def _share(whole: ShardGate, num_rows: int) -> ShardGate:
    """Of a shard that breaks nothing, the counts of so many of its rows."""
    rules = tuple(
        rule.model_copy(update={"checked": num_rows if rule.checked else 0}) for rule in whole.rules
    )
    return whole.model_copy(update={"rows": num_rows, "rules": rules})


def _together(contract: Contract, frames: Sequence["pd.DataFrame"]) -> "pd.DataFrame":
    import pandas as pd

    return pd.concat(
        [
            _rule_columns(contract, frame).assign(
                file=frame["file"].astype("str").to_numpy(), line=frame["line"].to_numpy()
            )
            for frame in frames
        ],
        ignore_index=True,
    )


def _read(contract: Contract, part: Path) -> "pd.DataFrame":
    """Of a parquet part the columns that rules speak of, and where its rows stand."""
    import pyarrow.parquet as pq

    wanted = ["file", "line", *_columns(contract)]
    present = pq.read_schema(part).names
    frame: pd.DataFrame = pq.read_table(part, columns=[n for n in wanted if n in present]).to_pandas()
    return frame


def gate_shard(contract: Contract, frame: "pd.DataFrame") -> ShardGate:
    """Count, rule by rule, the rows of one shard that break it.

    Raises:
        UserError: a rule cannot be evaluated on this data.
    """
    rows = _rule_columns(contract, frame)
    with _one_at_a_time:
        results = _validate([expectation(rule) for rule in contract.rules], rows)
    rules = tuple(_count(rule, results[rule.id], frame) for rule in contract.rules)
    return ShardGate(contract=contract.name, version=contract.version, rows=len(frame), rules=rules)


def merge(contract: Contract, dataset: str, shards: Sequence[ShardGate]) -> GateReport:
    """Add up the shards, in reading order, and decide every rule on the sums."""
    for shard in shards:
        assert [rule.rule for rule in shard.rules] == [rule.id for rule in contract.rules], (
            "another contract's shard"
        )
    num_rows = sum(shard.rows for shard in shards)
    rules = tuple(_decide(contract, rule, [shard.rules[i] for shard in shards], num_rows) for i, rule in enumerate(contract.rules))  # fmt: skip
    return GateReport(
        contract=contract.name,
        version=contract.version,
        dataset=dataset,
        rows=num_rows,
        passed=all(rule.success for rule in rules if rule.severity == "critical"),
        rules=rules,
    )


def breaks_at_most(unexpected: int, checked: int, allowed_ratio: float) -> bool:
    """`unexpected / checked <= allowed_ratio`, in exact arithmetic: 3 of 300 is 1 %."""
    return unexpected <= Fraction(str(allowed_ratio)) * checked


def _columns(contract: Contract) -> list[str]:
    return sorted({rule.kwargs["column"] for rule in contract.rules if not rule.is_table_rule})


def _rule_columns(contract: Contract, frame: "pd.DataFrame") -> "pd.DataFrame":
    """The columns that rules speak of, as Arrow text, rows numbered from 0; an absent column is all missing."""
    import pandas as pd

    missing = pd.Series([None] * len(frame), dtype="str")
    columns = {name: _as_text(frame[name].reset_index(drop=True)) if name in frame else missing for name in _columns(contract)}  # fmt: skip
    return pd.DataFrame(columns, index=pd.RangeIndex(len(frame)))


def _as_text(column: "pd.Series") -> "pd.Series":
    """A column as text; lists (tags) as their entries with a blank between."""
    if len(column) and not isinstance(column.iloc[0], str) and hasattr(column.iloc[0], "__iter__"):
        column = column.map(" ".join)
    return column.astype("str")


def _validate(expectations: list[dict[str, Any]], rows: "pd.DataFrame") -> dict[str, Any]:
    """Rule id -> what Great Expectations found."""
    gx, batch_definition = _great_expectations()
    from great_expectations.validator.v1_validator import Validator

    # ExpectationSuite.add_expectation_configuration would keep one rule per type and column; the constructor keeps all.
    suite = gx.ExpectationSuite(name="contract", expectations=expectations)
    # Batch.validate does the same after hashing every row a second time.
    validator = Validator(batch_definition=batch_definition, batch_parameters={"dataframe": rows}, result_format=RESULT_FORMAT)  # fmt: skip
    found = validator.validate_expectation_suite(suite)
    configured = [(result.expectation_config, result) for result in found.results]
    return {config.meta["rule"]: result for config, result in configured if config and config.meta}


def load_library() -> None:
    """Import Great Expectations, which takes seconds, before the first shard does."""
    _great_expectations()


@functools.cache
def _great_expectations() -> tuple[Any, Any]:
    """The library and one in-memory batch definition per process; telemetry and progress bars off."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False, metric_calculations=False)
    asset = context.data_sources.add_pandas("shards").add_dataframe_asset("rows")
    return gx, asset.add_batch_definition_whole_dataframe("shard")


def _count(rule: Rule, found: Any, frame: "pd.DataFrame") -> ShardRule:
    """Keep counts and places of a result; nothing of the rows' content."""
    if not found.result:
        raise UserError(
            f"the rule '{rule.id}' cannot be evaluated on this data", rule.place,
            f"check its kwargs against the column; Great Expectations stopped in {rule.type}",
        )  # fmt: skip
    known = {"rule": rule.id, "description": rule.description, "severity": rule.severity, "allowed_ratio": rule.allowed_ratio}  # fmt: skip
    if rule.is_table_rule:
        low, high = rule.kwargs.get("min_value"), rule.kwargs.get("max_value")
        return ShardRule(
            **known, checked=found.result["observed_value"], unexpected=0, minimum=low, maximum=high
        )
    positions = found.result.get("partial_unexpected_index_list") or []
    places = zip(frame["file"].iloc[positions], frame["line"].iloc[positions], strict=True)
    return ShardRule(
        **known,
        checked=found.result["element_count"] - found.result.get("missing_count", 0),
        unexpected=found.result["unexpected_count"],
        places=tuple(f"{file}:{line}" for file, line in places),
    )


def _decide(contract: Contract, rule: Rule, shards: Sequence[ShardRule], num_rows: int) -> RuleResult:
    known = {
        "contract": contract.name,
        "rule": rule.id,
        "description": rule.description,
        "severity": rule.severity,
    }
    if rule.is_table_rule:
        low, high = rule.kwargs.get("min_value", num_rows), rule.kwargs.get("max_value", num_rows)
        return RuleResult(
            **known, success=low <= num_rows <= high, checked=num_rows, unexpected=0, observed=num_rows
        )
    checked, unexpected = sum(shard.checked for shard in shards), sum(shard.unexpected for shard in shards)
    return RuleResult(
        **known,
        success=breaks_at_most(unexpected, checked, rule.allowed_ratio),
        checked=checked,
        unexpected=unexpected,
        allowed_ratio=rule.allowed_ratio,
        places=tuple(place for shard in shards for place in shard.places)[:NUM_PLACES],
    )
