"""A source of a run: its files, each read and gated once per content, put together."""

import functools
import itertools
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from data_contracts.contract import contract_sha256, load_contract
from schemas.commands import command
from schemas.errors import ContractFailed, UserError
from schemas.results.artifacts import FileLedger, GateReport, Role, RuleResult
from schemas.results.contracts import ShardGate
from schemas.spec.records import RecordKind
from schemas.spec.sources import Source
from tasks.data.read.shards import find_files
from tasks.data.validate.file_steps import read_files
from tasks.storage.code import code_version
from tasks.storage.reading import read_stored
from tasks.storage.steps import MADE_OF, Step, StepPlan, run_step
from tasks.storage.workers import ShardMap, fitting, map_in_processes

QUARANTINE = "quarantine-00000.jsonl"
"""In the folder of a source: the refused rows of all its files."""
_GATES = TypeAdapter(list[ShardGate])


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
        return [self.validated.folder.parent / name for name in self.validated.facts["parts"]]

    @property
    def steps(self) -> list[tuple[str, list[Path]]]:
        """Keys of the steps that hold the rows of its files, each with its parts."""
        parts, facts = iter(self.parts), self.validated.facts
        return [
            (key, [next(parts) for _ in range(count)])
            for key, count in zip(facts["keys"], facts["parts_of_steps"], strict=True)
        ]

    @property
    def part_rows(self) -> list[int]:
        return list(self.validated.facts["part_rows"])

    @property
    def ledgers(self) -> list[FileLedger]:
        """What reading made of each of its files."""
        return [
            FileLedger(role=self.role, source=self.index, **counts)
            for counts in self.validated.facts["counts"]
        ]

    @property
    def layouts(self) -> dict[str, str]:
        """Of instructions: file -> the layout it was read by, in words."""
        return dict(self.validated.facts["layouts"])

    @property
    def label(self) -> str:
        return f"{self.role}-{self.index}"


def validate_source(
    root: Path,
    source: Source,
    role: Role,
    index: int,
    map_shards: ShardMap = map_in_processes,
    record: RecordKind = "text",
    labels: tuple[str, ...] | None = None,
) -> PreparedSource:
    """Read and validate every file of a source, each once per content; rows with none of `labels` (if given) are refused.

    Raises:
        UserError: a file cannot be read in its format, or no row of the source is usable.
    """
    hashes, steps = read_files(root, source, find_files(source), map_shards, record, labels)
    plan = StepPlan(root, "validate", hashes, [step.key for step in steps], code_version(__name__))
    step = run_step(plan, functools.partial(_merge, steps))
    prepared = PreparedSource(role, index, source, step)
    if not sum(prepared.part_rows):
        read = sum(ledger.read for ledger in prepared.ledgers)
        raise UserError(
            f"no usable row in {role} source {index}: {read} rows read, all quarantined"
            if read
            else f"no row in {role} source {index}: the files are empty",
            source.path,
            f"see {step.folder}/{QUARANTINE} for the reasons" if read else "name files that hold data",
        )
    return prepared


def _merge(steps: Sequence[Step], folder: Path) -> dict[str, Any]:
    """The source as the rows of its files, which stay where they are, and their quarantines put together."""
    with (folder / QUARANTINE).open("wb") as out:
        for step in steps:
            for name in step.facts["quarantine"]:
                with (step.folder / name).open("rb") as part:
                    shutil.copyfileobj(part, out)
    if not (folder / QUARANTINE).stat().st_size:
        (folder / QUARANTINE).unlink()
    return {
        MADE_OF: [step.folder.name for step in steps],
        "keys": [step.key for step in steps],
        "parts_of_steps": [len(step.facts["parts"]) for step in steps],
        "parts": [f"{step.folder.name}/{name}" for step in steps for name in step.facts["parts"]],
        "part_rows": [rows for step in steps for rows in step.facts["part_rows"]],
        "counts": [counts for step in steps for counts in step.facts["counts"]],
        "layouts": {file: layout for step in steps for file, layout in step.facts["layouts"].items()},
        "schemes": {file: scheme for step in steps for file, scheme in step.facts["schemes"].items()},
    }


def gate_source(root: Path, prepared: PreparedSource, map_shards: ShardMap = map_in_processes) -> GateReport:
    """Check a validated source against its contract, each file once; the report says whether it passed.

    Counts add up, so the verdict is that on all rows together.
    """
    from data_contracts.gate import gate_parquets, join_small, merge

    contract = load_contract(prepared.source.contract)
    code = code_version(__name__)
    steps = prepared.steps
    plans = [
        StepPlan(root, "gate", {"rows": key, "contract": contract_sha256(contract)}, None, code)
        for key, _ in steps
    ]
    missing = [number for number, plan in enumerate(plans) if plan.finished() is None]
    parts = [part for number in missing for part in steps[number][1]]
    sizes = [part.stat().st_size for part in parts]
    jobs = [parts[some] for some in join_small(sizes)]
    work = functools.partial(gate_parquets, prepared.source.contract)
    gated = itertools.chain.from_iterable(fitting(map_shards, sum(sizes))(work, jobs))
    for number in missing:
        own = [next(gated) for _ in steps[number][1]]
        run_step(plans[number], functools.partial(_write_gates, own))
    shards = [
        gate for plan in plans for gate in _GATES.validate_json(read_stored(plan.folder / "gates.json"))
    ]
    again = command("rootstock", "check", prepared.source.contract, "--data", prepared.source.path)
    return merge(contract, prepared.source.path, shards).model_copy(update={"again": again})


def _write_gates(gates: Sequence[ShardGate], folder: Path) -> dict[str, Any]:
    (folder / "gates.json").write_bytes(_GATES.dump_json(list(gates), indent=1))
    return {}


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
    quarantine = prepared.validated.folder / QUARANTINE
    if quarantine.exists():
        with target.open("ab") as out, quarantine.open("rb") as rows:
            shutil.copyfileobj(rows, out)
