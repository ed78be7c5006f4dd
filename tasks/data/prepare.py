"""The data stage: from source files to rows whose fate is decided, tokens, and the training plan."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from schemas.reading.load import sources_of
from schemas.results.artifacts import GateReport, Ledger, MixtureReport, Role, TokenLedger
from schemas.spec.run import RunSpec
from schemas.spec.sources import Source
from tasks.data.labels.labels import Labels, find_labels
from tasks.data.labels.model_head import head_labels
from tasks.data.plan.plan import open_sources, plan_training
from tasks.data.split.consumed import Rows, load_rows
from tasks.data.split.divide import divide, load_ledger
from tasks.data.tokens.prompts import Frame, find_frame
from tasks.data.tokens.token_files import TokenPart
from tasks.data.tokens.tokenize import tokenize_source
from tasks.data.tokens.tokenizer import SpecialIds, special_ids
from tasks.data.validate.sources import PreparedSource, gate_source, require_passed, validate_source
from tasks.storage.steps import Step
from tasks.storage.workers import ShardMap, map_in_processes

Note = Callable[[str], None]
_ROLES: dict[str, Role] = {
    "domain": "domain",
    "replay": "replay",
    "evaluation.domain": "domain_suite",
    "evaluation.general": "general_suite",
    "increment.past": "replay",
}


@dataclass(frozen=True)
class Prepared:
    """Data that kept its contracts, every row with its fate."""

    sources: tuple[PreparedSource, ...]
    gates: tuple[GateReport, ...]
    divided: Step
    past_rows: Mapping[int, Rows] = field(default_factory=dict)
    """Number of an earlier increment that is scored again -> the digests of its rows."""

    @property
    def training(self) -> list[PreparedSource]:
        """Sources that are trained on, domain first: the numbering of the plan's pieces."""
        return [source for source in self.sources if source.role in ("domain", "replay")]

    @property
    def ledger(self) -> Ledger:
        return load_ledger(self.divided)


@dataclass(frozen=True)
class Tokenized:
    """Token ids of every source, and the plan of the training run."""

    special: SpecialIds
    steps: dict[str, Step]
    """label of the source -> its tokenize step"""
    plan: Step
    labels: Labels | None = None
    """Of the head, if the objective has one."""
    frame: Frame | None = None
    """What stands around prompts, if the objective has such."""
    asks: bool = False
    """Prompts of suites are answered by generating, and the final answers are compared."""

    @property
    def mixture(self) -> MixtureReport:
        return MixtureReport.model_validate(self.plan.facts["report"])

    @property
    def tokens(self) -> TokenLedger:
        return TokenLedger.model_validate(self.plan.facts["tokens"])

    def training_labels(self, prepared: Prepared) -> list[list[npt.NDArray[np.int32]]]:
        """Label numbers of the training sources, as the plan numbers them; none if the objective has no head."""
        return [self.labels.open(source) for source in prepared.training] if self.labels else []

    def training_tokens(self, prepared: Prepared) -> list[list[TokenPart]]:
        """Token parts of the training sources, as the plan numbers them."""
        steps = [self.steps[source.label] for source in prepared.training]
        return open_sources(prepared.training, steps, self.special)


def read_sources(spec: RunSpec) -> list[tuple[Role, int, bool, Source]]:
    """What a run reads: role, number within the role, whether it is the past, source.

    Files of earlier increments are replay sources behind the others, and read for their suites even where nothing is
    replayed.
    """
    given = spec.own_text is not None or not spec.writes_own_text
    assert given, "not the effective specification: see flows/growing/effective.py"
    listed = []
    for path, source in sources_of(spec):
        role, past = _ROLES[".".join(str(part) for part in path[:-1])], path[0] == "increment"
        if role != "replay" or spec.reads_replay or past:
            listed.append((role, int(path[-1]) + (len(spec.replay) if past else 0), past, source))
    return listed


def prepare(
    root: Path, spec: RunSpec, map_shards: ShardMap = map_in_processes, note: Note = lambda _: None
) -> Prepared:
    """Validate every source, gate it by its contract, then decide the fate of every row.

    Replay sources are left out at replay ratio 0, unless a remedy measures on them.

    Raises:
        UserError: a file cannot be read, or a source has no usable row.
        ContractFailed: a critical rule is broken; nothing has been trained.
        LedgerImbalance: a row was lost (a defect of ours).
    """
    sources, gates = [], []
    for role, index, past, source in read_sources(spec):
        validated = validate_source(
            root, source, role, index, map_shards, spec.record_of(source), spec.labels_of(source)
        )
        prepared = replace(validated, past=past)
        rows = sum(ledger.read for ledger in prepared.ledgers)
        note(f"read {source.path}: {rows:,} rows, {rows - sum(prepared.part_rows):,} quarantined")
        for layout in dict.fromkeys(prepared.layouts.values()):
            note(f"layout of {source.path}: {layout}")
        sources.append(prepared)
    for prepared in sources:
        gates.append(gate_source(root, prepared, map_shards))
        note(
            f"contract {gates[-1].contract} on {prepared.source.path}: {'kept' if gates[-1].passed else 'BROKEN'}"
        )
    require_passed(gates)
    remembered = spec.increment.remembered if spec.increment else ()
    past_rows = {past.number: load_rows(root, [past]) for past in remembered}
    return Prepared(tuple(sources), tuple(gates), divide(root, spec, sources), past_rows)


def tokenize(
    root: Path,
    spec: RunSpec,
    prepared: Prepared,
    base: Path,
    map_shards: ShardMap = map_in_processes,
    note: Note = lambda _: None,
) -> Tokenized:
    """Tokenise every source with the base's tokenizer and lay out the training run; number the labels of a head.

    Raises:
        UserError: the tokenizer cannot be used, a source has no training row left, or see `find_labels`.
    """
    head = spec.objective.new_head
    special = special_ids(base, framed=head)
    frame = None
    if spec.objective.prompt_template is not None:
        frame = find_frame(base, spec.objective.prompt_template)
        note(f"prompts: {_shown(frame)}")
    steps = {}
    for source in prepared.sources:
        steps[source.label] = tokenize_source(
            root, source, base, map_shards, spec.record_of(source.source), frame
        )
        note(f"tokenised {source.source.path}: {steps[source.label].facts['tokens']:,} tokens")
    training = prepared.training
    labels = None
    if head:
        known = head_labels(base, spec.head_kind)
        labels = find_labels(root, spec, prepared.sources, steps, prepared.divided, special.vocab_size, known)
        shown = ", ".join(labels.names[:8]) + (" ..." if len(labels.names) > 8 else "")
        note(
            f"{len(labels.names)} {'labels' if spec.head_kind == 'text_classification' else 'tags'}: {shown}"
        )
    tokens = [steps[s.label] for s in training]
    plan = plan_training(root, spec, training, tokens, prepared.divided, special, labels)
    tokenized = Tokenized(special, steps, plan, labels, frame, spec.objective.generates)
    if tokenized.tokens.no_room:
        note(
            f"{tokenized.tokens.no_room:,} prompts leave no room for a response in"
            f" {spec.training.sequence_length} tokens: not trained on, counted as truncated"
        )
    return tokenized


def _shown(frame: Frame) -> str:
    return f"template {frame.template}: {frame.before!r} PROMPT {frame.after!r} RESPONSE"
