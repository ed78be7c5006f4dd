"""Validate a source's files shard by shard, and gate the result with its contract."""

import functools
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_contracts.contract import contract_sha256, load_contract
from schemas.artifacts import FileLedger, GateReport, Role, RuleResult
from schemas.commands import command
from schemas.errors import ContractFailed, UserError
from schemas.load import source_files
from schemas.records import RecordKind
from schemas.sources import Source
from tasks.data.layouts import with_layouts
from tasks.data.schemes import with_schemes
from tasks.data.shard import Shard, plan_shards
from tasks.data.validate import validate_shard
from tasks.storage.hashing import code_version, sha256_file
from tasks.storage.steps import Step, StepPlan, run_step
from tasks.storage.workers import ShardMap, map_in_processes

READING_CODE = (
    *(f"tasks/data/{name}.py" for name in ("checks", "conll", "digest", "encoding", "iob", "json_document")),
    *(
        f"tasks/data/{name}.py"
        for name in ("layouts", "parts", "read", "rows", "schemes", "shard", "stream", "table")
    ),
    "tasks/data/validate.py",
    "schemas/records.py",
    "schemas/source_rules.py",
)
GATING_CODE = ("data_contracts",)


@dataclass(frozen=True)
class PreparedSource:
    """A source after validation: its rows as parquet parts, and its place in the run."""

    role: Role
    index: int
    source: Source
    validated: Step
    past: bool = False
    """A replay source with the rows of earlier increments, of which some are scored instead of trained on."""

    @property
    def parts(self) -> list[Path]:
        return [self.validated.folder / name for name in self.validated.facts["parts"]]

    @property
    def part_rows(self) -> list[int]:
        return list(self.validated.facts["part_rows"])

    @property
    def ledgers(self) -> list[FileLedger]:
        return [FileLedger.model_validate(ledger) for ledger in self.validated.facts["ledgers"]]

    @property
    def layouts(self) -> dict[str, str]:
        """Of instructions: file -> the layout it was read by, in words."""
        return dict(self.validated.facts["layouts"])

    @property
    def label(self) -> str:
        return f"{self.role}-{self.index}"


def hash_files(files: list[str]) -> dict[str, str]:
    """sha256 of each file.

    Raises:
        UserError: a file cannot be read.
    """
    hashes = {}
    for file in files:
        try:
            hashes[file] = sha256_file(Path(file))
        except OSError as error:
            fix = "check its permissions and the disk"
            raise UserError(f"cannot read the file: {error.strerror}", file, fix) from None
    return hashes


def _state_of(file: str) -> tuple[int, int, int] | None:
    """What a file system says of a file's content: equal before and after means unchanged."""
    try:
        stat = Path(file).stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def validate_source(
    root: Path,
    source: Source,
    role: Role,
    index: int,
    map_shards: ShardMap = map_in_processes,
    record: RecordKind = "text",
    labels: tuple[str, ...] | None = None,
) -> PreparedSource:
    """Read and validate every file of a source, shard by shard; rows with none of `labels` (if given) are refused.

    Raises:
        UserError: a file cannot be read in its format, or no row of the source is usable.
    """
    files = source_files(source)
    before = {file: _state_of(file) for file in files}
    plan = StepPlan(
        root=root,
        name="validate",
        inputs=hash_files(files),
        settings=[
            source.model_dump(mode="json", exclude={"contract", "weight"}),
            role,
            index,
            record,
            labels,
        ],
        code=code_version(READING_CODE, ("pydantic", "pyarrow", "orjson", "xxhash", "charset-normalizer")),
    )

    def work(folder: Path) -> dict[str, Any]:
        shards, layouts = with_layouts(plan_shards(source, role, index, record=record, labels=labels))
        facts = _validate(source, with_schemes(shards, map_shards), map_shards, folder)
        facts["layouts"] = layouts
        changed = [file for file in files if _state_of(file) != before[file]]
        if changed:
            fix = "run the same command again when nothing writes to the file"
            raise UserError("the file changed while it was being read", ", ".join(changed[:3]), fix)
        return facts

    step = run_step(plan, work)
    prepared = PreparedSource(role, index, source, step)
    if not sum(prepared.part_rows):
        read = sum(ledger.read for ledger in prepared.ledgers)
        raise UserError(
            f"no usable row in {role} source {index}: {read} rows read, all quarantined"
            if read
            else f"no row in {role} source {index}: the files are empty",
            source.path,
            f"see {step.folder}/quarantine-*.jsonl for the reasons" if read else "name files that hold data",
        )
    return prepared


def _validate(source: Source, shards: Sequence[Shard], map_shards: ShardMap, folder: Path) -> dict[str, Any]:
    results = map_shards(functools.partial(validate_shard, folder=folder), shards)
    ledgers: dict[str, FileLedger] = {
        file: FileLedger(file=file, role=shards[0].role, source=shards[0].source)
        for file in source_files(source)
    }
    for result in results:
        ledgers[result.shard.file] = _add(ledgers[result.shard.file], result.ledger)
    parts = [part for result in results for part in result.parts]
    return {
        "parts": parts,
        "part_rows": [_num_rows(folder / part) for part in parts],
        "ledgers": [ledger.model_dump(mode="json") for ledger in ledgers.values()],
        "schemes": {s.file: s.scheme for s in shards if s.record == "tagged_tokens"},
    }


def _add(total: FileLedger, shard: FileLedger) -> FileLedger:
    reasons = dict(total.reasons)
    for reason, count in shard.reasons.items():
        reasons[reason] = reasons.get(reason, 0) + count
    return total.model_copy(
        update={
            "read": total.read + shard.read,
            "accepted": total.accepted + shard.accepted,
            "quarantined": total.quarantined + shard.quarantined,
            "reasons": reasons,
        }
    )


def _num_rows(part: Path) -> int:
    import pyarrow.parquet as pq

    return int(pq.read_metadata(part).num_rows)


def gate_source(root: Path, prepared: PreparedSource, map_shards: ShardMap = map_in_processes) -> GateReport:
    """Check a validated source against its contract; the report says whether it passed."""
    contract = load_contract(prepared.source.contract)
    plan = StepPlan(
        root=root,
        name="gate",
        inputs={"rows": prepared.validated.key, "contract": contract_sha256(contract)},
        settings=prepared.source.path,
        code=code_version(GATING_CODE, ("great-expectations",)),
    )

    def work(folder: Path) -> dict[str, Any]:
        from data_contracts.gate import gate_parquet, merge

        shards = map_shards(functools.partial(gate_parquet, prepared.source.contract), prepared.parts)
        report = merge(contract, prepared.source.path, shards)
        (folder / "gate.json").write_text(report.model_dump_json(indent=1))
        return {"passed": report.passed}

    step = run_step(plan, work)
    report = GateReport.model_validate_json((step.folder / "gate.json").read_bytes())
    source = prepared.source
    again = command("rootstock", "check", source.contract, "--data", source.path)
    return report.model_copy(update={"again": again})


def require_passed(reports: list[GateReport]) -> None:
    """Stop the run if any dataset broke a critical rule of its contract.

    Raises:
        ContractFailed: naming each broken rule and the first places.
    """
    broken = [(report, rule) for report in reports for rule in report.rules if not rule.success and rule.severity == "critical"]  # fmt: skip
    if all(report.passed for report in reports):
        return
    lines = [f"{report.dataset}: {rule.rule} ({rule.description}), {_found(rule)}" for report, rule in broken]
    places = [place for _, rule in broken for place in rule.places][:3]
    failure = ContractFailed(
        f"{len(broken)} critical contract {'rules' if len(broken) > 1 else 'rule'} broken: {'; '.join(lines)}",
        ", ".join(places) or broken[0][0].dataset,
        f"mend the data, then see the whole report with: {broken[0][0].again}",
    )
    failure.reports = tuple(reports)
    raise failure


def _found(rule: RuleResult) -> str:
    if rule.observed is not None:
        return f"found {rule.observed:,g}"
    return f"broken by {rule.unexpected:,} of {rule.checked:,} rows"


def copy_quarantine(prepared: PreparedSource, target: Path) -> None:
    """Append a source's quarantine to one file people can read."""
    with target.open("ab") as out:
        for file in sorted(prepared.validated.folder.glob("quarantine-*.jsonl")):
            with file.open("rb") as part:
                shutil.copyfileobj(part, out)
