"""`rootstock check`: read raw files and hold them against a contract, without a run and without torch."""

import functools
import itertools
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from data_contracts.contract import Contract, load_contract
from data_contracts.gate import NUM_PLACES, breaks_at_most, gate_as_one, join_small, merge
from flows.progress.terminal import console, give_order, say
from schemas.base import Schema
from schemas.commands import command
from schemas.errors import ExitCode, UserError
from schemas.paths.file_names import unfit_name
from schemas.results.artifacts import GateReport, RowCounts, RuleResult
from schemas.results.contracts import ShardGate
from schemas.spec.records import RECORDS
from schemas.spec.source_rules import told_format
from schemas.spec.sources import Source
from tasks.data.read.entity_schemes import with_schemes
from tasks.data.read.instruction_layouts import with_layouts
from tasks.data.read.shards import Shard, find_files, plan_shards, size_of
from tasks.data.validate.validate_shard import validate_shards
from tasks.storage.workers import fitting, map_here, map_in_processes

READABLE = "rows.readable"


class CheckedShards(Schema):
    """Some shards, read and gated; their rows are gone again."""

    counts: tuple[RowCounts, ...]
    gates: tuple[ShardGate, ...]
    quarantine_places: tuple[str, ...]


def check_and_print(
    contract: str,
    data: Sequence[str],
    junit: Path | None = None,
    json_file: Path | None = None,
    github: bool = False,
) -> ExitCode:
    """Check, print the report (a table on a terminal, plain lines elsewhere), write the files CI reads.

    Raises:
        UserError: as `check`.
    """
    from data_contracts.report import to_github, to_junit, to_lines, to_table, verdict

    report = check(contract, data)
    if sys.stdout.isatty():
        console().print(to_table(report))
        say(verdict(report))
    else:
        say("\n".join(to_lines(report)))
    for line in to_github(report) if github else ():
        give_order(line)
    if junit is not None:
        _write(junit, to_junit(report))
    if json_file is not None:
        _write(json_file, report.model_dump_json(indent=2) + "\n")
    return ExitCode.PROMOTE if report.passed else ExitCode.CONTRACT_FAILED


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"cannot write the report: {error.strerror}", str(file), "name a file you may write"
        ) from None


def check(contract: str, data: Sequence[str]) -> GateReport:
    """Hold raw files (paths or globs) against a contract, as a run would hold a source.

    A row that cannot be read breaks the rule `rows.readable`.

    Raises:
        UserErrors: the contract has mistakes.
        UserError: a path matches no file, or a file cannot be read to its end.
    """
    loaded = load_contract(contract)
    shards: list[Shard] = []
    for path in dict.fromkeys(data):
        if not path:
            raise UserError("a path is empty", "--data", "name a file or a glob")
        if (unfit := unfit_name(path)) is not None:
            raise unfit
        source = Source(path=path, contract=contract)
        if (form := told_format(source)) not in RECORDS[loaded.record].formats:
            fix = f"name a file of {', '.join(RECORDS[loaded.record].formats)}, or another contract"
            raise UserError(
                f"a {form} file does not hold {RECORDS[loaded.record].holds}", f"--data {path}", fix
            )
        shards += plan_shards(source, find_files(source), len(shards), record=loaded.record)
    shards = with_schemes(with_layouts(shards)[0], map_here)
    with tempfile.TemporaryDirectory(prefix="rootstock-check-") as folder:
        work = functools.partial(_check_shards, str(loaded.file.resolve()), Path(folder))
        sizes = [
            (size_of(shard.file) if shard.stop is None else shard.stop) - shard.start for shard in shards
        ]
        jobs = [shards[some] for some in join_small(sizes)]
        checked = fitting(map_in_processes, sum(sizes))(work, jobs)
    report = merge(loaded, ", ".join(data), [gate for shard in checked for gate in shard.gates])
    again = command("rootstock", "check", contract, *(word for path in data for word in ("--data", path)))
    return _with_readable(loaded, report.model_copy(update={"again": again}), checked)


def _check_shards(contract_file: str, folder: Path, shards: Sequence[Shard]) -> CheckedShards:
    """Read, validate and gate some shards; remove their rows, so that disk use does not grow with the data."""
    results = [validate_shards([shard], folder) for shard in shards]
    parts = [folder / name for result in results for name in result.parts]
    sizes = [part.stat().st_size for part in parts]
    gates = tuple(gate_as_one(contract_file, parts[some]) for some in join_small(sizes))
    for part in parts:
        part.unlink()
    places = (
        place for shard in shards for place in _places(folder / f"quarantine-{shard.ordinal:05d}.jsonl")
    )
    return CheckedShards(
        counts=tuple(counts for result in results for counts in result.counts),
        gates=gates,
        quarantine_places=tuple(itertools.islice(places, NUM_PLACES)),
    )


def _places(quarantine: Path) -> tuple[str, ...]:
    """`file:line` of the first refused rows."""
    if not quarantine.exists():
        return ()
    with quarantine.open(encoding="utf-8") as lines:
        entries = [json.loads(line) for line, _ in zip(lines, range(NUM_PLACES), strict=False)]
    return tuple(f"{entry['file']}:{entry['line']}" for entry in entries)


def _with_readable(contract: Contract, report: GateReport, checked: Sequence[CheckedShards]) -> GateReport:
    """Add the rule about rows that never reached the contract because they could not be read."""
    counts = [counts for some in checked for counts in some.counts]
    read, refused = sum(c.read for c in counts), sum(c.quarantined for c in counts)
    reasons = sorted({reason for c in counts for reason in c.reasons})
    rule = RuleResult(
        contract=contract.name,
        rule=READABLE,
        description="every row can be read" + (f" (found: {', '.join(reasons)})" if reasons else ""),
        severity="critical",
        success=breaks_at_most(refused, read, contract.max_quarantined_ratio),
        checked=read,
        unexpected=refused,
        allowed_ratio=contract.max_quarantined_ratio,
        places=tuple(place for some in checked for place in some.quarantine_places)[:NUM_PLACES],
    )
    return report.model_copy(
        update={"passed": report.passed and rule.success, "rules": (rule, *report.rules)}
    )
