"""A run's folder: what it was asked, what it did, and everything its verdict rests on."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from data_contracts.contract import load_contract
from schemas.errors import UserError
from schemas.reading.load import sources_of
from schemas.results.artifacts import Bindings, Decision, Scores
from schemas.results.counts import Latency, Parameters
from schemas.results.realignment import Realignment
from schemas.results.replay_choice import ReplayChoice
from schemas.spec.promotion import Forced
from schemas.spec.run import RunSpec
from tasks.data.prepare import Note, Prepared, Tokenized
from tasks.data.split.consumed import ROWS, rows_file
from tasks.data.validate.file_steps import hash_files
from tasks.data.validate.sources import copy_quarantine
from tasks.release.increments.watermark import (
    candidates_line,
    draft_record,
    load_watermark,
    require_undecided,
)
from tasks.release.pages.card import write_card
from tasks.release.pages.report import ReportData, write_report
from tasks.release.promotion import promotion
from tasks.release.record.lineage import build_lineage, write_lineage
from tasks.release.record.mend import require_intact, require_own
from tasks.release.record.run_name import _hash_data, name_run
from tasks.release.record.run_record import (
    DRAFT,
    FORCED,
    RunRecord,
    close_run,
    find_run_damage,
    read_record,
    write_record,
)
from tasks.release.record.run_record import FILE as RECORD
from tasks.release.registry import incumbent, releases
from tasks.release.registry import versions as registry
from tasks.storage.atomic import atomic_folder, remove, write_atomic
from tasks.storage.hashing import sha256_file, sha256_value
from tasks.storage.intact import Damage
from tasks.storage.reading import is_plain, read_stored
from tasks.storage.stderr import tell
from tasks.storage.steps import Step, hold
from tasks.training.loop.progress_file import read_metrics
from tasks.training.models.base_model import BaseModel

_FILES = (
    "spec.yaml", incumbent.FILE, "replay_choice.json", "ledger.json", "quarantine.jsonl", "contracts.json", "metrics.jsonl",
    "scores.json", "decision.json", "lineage.json", FORCED, DRAFT, ROWS, "report.html", RECORD,
)  # fmt: skip
"""What a run writes beside its model. A folder, link or pipe in the place of one is removed."""


@dataclass(frozen=True)
class RunResult:
    """Everything a finished journey hands to its last stage."""

    spec: RunSpec
    prepared: Prepared
    tokenized: Tokenized
    base: BaseModel
    trained: Step
    scores: Scores
    latency: Latency
    choice: ReplayChoice | None
    """Of the replay ratio, where a budget was given."""
    seconds: dict[str, float]
    device: str
    realignment: Realignment | None = None
    """If the candidate fails for forgetting and the probe could be made."""
    alone: float | None = None
    """Score on the increment of a model that learned it alone, where one was trained beside the candidate."""


@dataclass(frozen=True)
class RunFolder:
    """`<state>/runs/<name>-<hash of everything that goes in>/`."""

    state: Path
    spec: RunSpec
    """As it was asked for, which names the run; from `following` on as it is followed."""
    id: str
    data: Mapping[str, str]
    """file -> sha256, when the run was opened"""

    @classmethod
    def open(cls, state: Path, spec: RunSpec) -> "RunFolder":
        """Name the folder by specification, data, contracts, base and code, so that the same run finds itself again.

        Raises:
            UserError: a file cannot be read, or `base_from: champion` but nothing has been promoted yet.
        """
        promotion.settle(state, spec.name)
        files = _hash_data(spec)
        return cls(state, spec, name_run(state, spec, files), files)

    def following(self, spec: RunSpec) -> "RunFolder":
        """The same run with its effective specification; text that was written for it on the way is data of the run too."""
        own = [] if spec.own_text is None else list(spec.own_text.files)
        return replace(self, spec=spec, data={**self.data, **hash_files(own)})

    @contextmanager
    def held(self, note: Note) -> Iterator[None]:
        """Keep other processes from this run; one that wants it waits until this one is done or dead."""
        with hold(self.state, self.id, lambda: note("another process is at this very run: waiting for it")):
            yield

    @property
    def folder(self) -> Path:
        return self.state / "runs" / self.id

    def finished(self) -> Decision | None:
        """The decision, if the run has come to its end and all that it left is still there as it was."""
        record = read_record(self.folder)
        if not isinstance(record, RunRecord) or find_run_damage(self.folder, thorough=False) is not None:
            return None
        file = self.folder / "decision.json"
        try:
            if sha256_file(file) == record.decision and (self.folder / "model").is_dir():
                return Decision.model_validate_json(read_stored(file))
        except (OSError, ValidationError):
            pass
        return None

    def start(self) -> None:
        """Write the resolved specification, and pin the champion that the candidate must beat.

        A run that was finished and is damaged is measured against the champion of then, so that it comes to the same end.

        Raises:
            UserError: the folder of that name is another run's: nothing of it is written over.
        """
        require_own(self.folder)
        if (damage := find_run_damage(self.folder)) is not None:
            tell(f"run {self.id} is damaged, so it is concluded again: {damage}")
        self.folder.mkdir(parents=True, exist_ok=True)
        for file in set(_FILES) - {RECORD}:
            if not is_plain(self.folder / file):
                remove(self.folder / file)
        record = self._record_before()
        write_atomic(
            self.folder / "spec.yaml", dump_yaml(self.spec.model_dump(mode="json", exclude_none=True))
        )
        if record is not None and record.incumbent is not None:
            incumbent.restore(self.folder, record.incumbent)
        else:
            incumbent.pin(self.state, self.spec.name, self.folder)

    def _record_before(self) -> RunRecord | None:
        """What the run had left when it was finished; of a damaged record what can be told from elsewhere."""
        record, file = read_record(self.folder), self.folder / "decision.json"
        if not isinstance(record, Damage):
            return record
        decided = registry.decision_of(self.state, self.spec.name, self.id)
        if not file.is_file() or sha256_file(file) != decided:
            return None
        runs = [known.run for known in load_watermark(self.state, self.spec.name).records]
        place = 1 + runs.index(self.id) if self.id in runs else None
        found = RunRecord(
            run=self.id,
            decision=decided,
            name=self.spec.name,
            incumbent=incumbent.load(self.folder),
            consumed=place,
            forced=self._forced(),
        )
        write_record(self.folder, found)
        return found

    def _forced(self) -> Forced | None:
        """Who put this run in use against its decision, as the record of releases has it."""
        lines = [line for line in releases.read(self.state) if line.run == self.id and line.forced]
        if not lines:
            return None
        decision = Decision.model_validate_json(read_stored(self.folder / "decision.json"))
        broken = tuple(rule.reason for rule in decision.rules if rule.outcome != "pass")
        who, _, why = lines[-1].forced.partition(": ")
        return Forced(who=who, when=lines[-1].when, why=why, broken=broken)

    @property
    def champion_folder(self) -> Path | None:
        """Model of the champion that the candidate is measured against.

        Raises:
            UserError: its files are not those that were promoted.
        """
        folder = incumbent.model_folder(self.state, self.spec.name, self.folder)
        if folder is not None:
            require_intact(folder.parent)
        return folder

    @property
    def turn(self) -> int:
        """How many runs of this name were decided before this one began."""
        return incumbent.turn_of(self.folder)

    def write_data(self, prepared: Prepared) -> None:
        """Write what is known of the data before anything is trained: ledger, quarantine, contract reports.

        Raises:
            UserError: a file has changed since the run was opened: its id would stand for other data.
        """
        for file, sha256 in self._data_hashes(prepared).items():
            if self.data.get(file) != sha256:
                fix = "run the same command again when nothing writes to the file"
                raise UserError("the file changed while the run was reading it", file, fix)
        write_atomic(self.folder / "ledger.json", prepared.ledger.model_dump_json(indent=1))
        write_atomic(
            self.folder / "contracts.json",
            json.dumps([gate.model_dump(mode="json") for gate in prepared.gates], indent=1),
        )
        quarantine = self.folder / "quarantine.jsonl"
        quarantine.unlink(missing_ok=True)
        for source in prepared.sources:
            copy_quarantine(source, quarantine)

    def write_choice(self, choice: ReplayChoice) -> None:
        """Write `replay_choice.json`: the curve, also where no ratio keeps the budget."""
        write_atomic(self.folder / "replay_choice.json", choice.model_dump_json(indent=1))

    def write_evidence(self, result: RunResult) -> Bindings:
        """Write model, scores, ledger and lineage; return the hashes a decision is bound to."""
        with atomic_folder(self.folder / "model") as model:
            # a copy, not a link: a file edited in the run's folder must not change the finished step
            shutil.copytree(result.trained.folder / "model", model, dirs_exist_ok=True)
        ledger = result.prepared.ledger.model_copy(
            update={"tokens": result.tokenized.tokens}
        ).require_balance()
        write_atomic(self.folder / "ledger.json", ledger.model_dump_json(indent=1))
        write_atomic(self.folder / "scores.json", result.scores.model_dump_json(indent=1))
        shutil.copy(result.trained.folder / "metrics.jsonl", self.folder / "metrics.jsonl")
        lineage = build_lineage(
            run=self.id,
            spec=self.folder / "spec.yaml",
            data=self._data_hashes(result.prepared),
            contracts=[load_contract(s.contract).file for _, s in sources_of(self.spec)],
            base=result.base.sha256,
            base_name=result.base.name,
            model=self.folder / "model",
            steps=_step_keys(result),
        )
        write_lineage(self.folder / "lineage.json", lineage)
        return Bindings(
            spec=lineage.spec,
            data=sha256_value(lineage.data),
            scores=sha256_file(self.folder / "scores.json"),
            weights=lineage.weights,
            base=lineage.base,
        )

    def _data_hashes(self, prepared: Prepared) -> dict[str, str]:
        return {
            file: sha for source in prepared.sources for file, sha in source.validated.manifest.inputs.items()
        }

    def fill_in(self, command: str) -> str:
        """Put this run and its name into a command that a decision advises."""
        return command.replace("RUN", self.id).replace("NAME", self.spec.name)

    def write_decision(self, decision: Decision) -> None:
        """Write `decision.json`."""
        write_atomic(self.folder / "decision.json", decision.model_dump_json(indent=1))

    def write_increment(self, result: RunResult, decision: Decision) -> None:
        """Write what the decision on an increment will leave (`increment.json`); of any other run, nothing."""
        if self.spec.increment is None:
            return
        data = self._data_hashes(result.prepared)
        record = draft_record(
            self.state, self.id, self.spec, result.prepared, data, result.scores, decision, result.alone
        )
        write_atomic(self.folder / DRAFT, record.model_dump_json(indent=1))
        shutil.copy(rows_file(self.state, record.rows), self.folder / ROWS)

    def write_report(self, result: RunResult, decision: Decision) -> None:
        """Write report.html and the model's card."""
        from schemas.results.artifacts import Ledger, Lineage

        data = ReportData(
            run=self.id,
            spec=self.spec,
            decision=decision,
            scores=result.scores,
            ledger=Ledger.model_validate_json(read_stored(self.folder / "ledger.json")),
            mixture=result.tokenized.mixture,
            gates=result.prepared.gates,
            metrics=tuple(read_metrics(self.folder / "metrics.jsonl")),
            parameters=Parameters.model_validate(result.trained.facts["parameters"]),
            latency=result.latency,
            lineage=Lineage.model_validate_json(read_stored(self.folder / "lineage.json")),
            seconds=result.seconds,
            device=result.device,
            labels=result.tokenized.labels.counts if result.tokenized.labels else {},
            choice=result.choice,
            increments=candidates_line(self.state, self.folder, self.spec),
            remedies=result.trained.facts["remedies"],
            method=result.trained.facts["method"],
        )
        write_report(self.folder / "report.html", data)
        write_card(self.folder / "model" / "README.md", data)

    def release(self, decision: Decision) -> None:
        """Register the model; a passing one becomes champion, or challenger where approval is manual.

        Raises:
            UserError: the champion it was measured against is not in use any more.
        """
        record = read_record(self.folder)
        if isinstance(record, RunRecord) and record.decision == sha256_file(self.folder / "decision.json"):
            return  # it was damaged after its release, and has come to the same decision
        if isinstance(record, RunRecord):  # what follows is another release, against the champion in use
            write_record(
                self.folder, RunRecord(run=self.id, decision="", name=record.name, consumed=record.consumed)
            )
        else:
            remove(self.folder / RECORD)

        def check() -> None:
            incumbent.require_in_use(self.state, self.spec.name, self.folder)
            if self.spec.increment is not None:
                require_undecided(self.state, self.spec.name, self.id, self.spec.increment)

        if decision.verdict != "promote":
            promotion.refuse(self.state, self.folder, check)
        elif self.spec.promotion.approval == "manual":
            promotion.nominate(self.state, self.folder, check)
        else:
            promotion.promote(self.state, self.folder, check=check)

    def close(self) -> None:
        """Mark the run as finished: from now on it is a no-op."""
        decision, pinned = sha256_file(self.folder / "decision.json"), incumbent.load(self.folder)
        close_run(self.folder, decision, self.spec.name, pinned, written=True)


def _step_keys(result: RunResult) -> dict[str, str]:
    keys = {f"validate {source.label}": source.validated.key for source in result.prepared.sources}
    keys |= {f"tokenize {label}": step.key for label, step in result.tokenized.steps.items()}
    if result.tokenized.labels is not None:
        keys["labels"] = result.tokenized.labels.step.key
    return keys | {
        "divide": result.prepared.divided.key,
        "plan": result.tokenized.plan.key,
        "train": result.trained.key,
    }


def dump_yaml(value: Any) -> str:
    """Write plain values as YAML."""
    import io

    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.allow_unicode = True
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    text = io.StringIO()
    yaml.dump(value, text)
    return text.getvalue()
