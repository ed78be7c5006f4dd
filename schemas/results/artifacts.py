"""What steps hand to one another and what a run leaves behind. Never tensors, never data frames."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from schemas.base import Schema
from schemas.errors import LedgerImbalance
from schemas.results.realignment import Realignment
from schemas.results.scores import ItemScore as ItemScore
from schemas.results.scores import Scores as Scores
from schemas.results.scores import SuiteScores as SuiteScores
from schemas.results.scores import Who as Who


class FileHash(Schema):
    """One file of a step's folder."""

    path: str
    """Relative to the folder."""
    sha256: str
    bytes: int


class Manifest(Schema):
    """What a finished step left in its folder (`manifest.json`, written last)."""

    step: str
    key: str
    """sha256 over the step's inputs, settings and code: the folder's name."""
    inputs: dict[str, str]
    """Name of each input -> its key or sha256."""
    files: tuple[FileHash, ...]
    facts: dict[str, Any]
    """Counts and results the next steps and the report read."""


Role = Literal["domain", "replay", "domain_suite", "general_suite"]


class RowCounts(Schema):
    """What reading made of the rows of one file, whatever they are read for."""

    file: str
    read: int = 0
    accepted: int = 0
    quarantined: int = 0
    reasons: dict[str, int] = Field(default_factory=dict)
    """Quarantined rows by reason code."""

    def __add__(self, other: "RowCounts") -> "RowCounts":
        """Counts of two parts of the file together."""
        codes = dict.fromkeys([*self.reasons, *other.reasons])
        return RowCounts(
            file=self.file,
            read=self.read + other.read,
            accepted=self.accepted + other.accepted,
            quarantined=self.quarantined + other.quarantined,
            reasons={code: self.reasons.get(code, 0) + other.reasons.get(code, 0) for code in codes},
        )


class FileLedger(Schema):
    """Where every row of one file went. Each row is in exactly one place."""

    file: str
    role: Role
    source: int
    """Index of the source within its role."""
    read: int = 0
    accepted: int = 0
    """Rows kept for the file's role: training rows (domain, replay) or scored items (suites)."""
    quarantined: int = 0
    duplicate: int = 0
    leaked: int = 0
    """Training rows removed because they occur in an evaluation set."""
    held_out: int = 0
    """Domain rows kept for scoring by `domain_holdout`."""
    reasons: dict[str, int] = Field(default_factory=dict)
    """Quarantined rows by reason code."""

    @property
    def placed(self) -> int:
        return self.accepted + self.quarantined + self.duplicate + self.leaked + self.held_out


class TokenLedger(Schema):
    """Where every token of the accepted training rows went (label tokens, one pass over the plan)."""

    domain: int
    """Domain label tokens available in one epoch."""
    replay: int
    """Replay label tokens available in one epoch."""
    domain_trained: int
    replay_trained: int
    """Label tokens trained over the whole run (repetitions counted)."""
    truncated: int
    """Label tokens cut off to meet the mixture or the length exactly."""
    padding: int
    repeated: int = 0
    """Domain label tokens that each pass has besides: documents of rare labels once more (mixture.class_temperature)."""
    domain_filled: int = 0
    replay_filled: int = 0
    """Label tokens trained beyond the tokens or epochs that were asked for: they fill the last step."""
    left_out: int = 0
    """Label tokens of domain documents that training.documents did not choose."""
    development: int = 0
    """Label tokens of domain and replay documents that a remedy chooses by: they are not trained on."""
    no_room: int = 0
    """Rows (not tokens) whose prompt alone fills a sequence: their responses are among the truncated tokens."""


class Ledger(Schema):
    """Rows in = accepted + quarantined + duplicate + leaked + held out, per file and in all."""

    files: tuple[FileLedger, ...]
    tokens: TokenLedger | None = None

    @property
    def total(self) -> FileLedger:
        counts = {
            name: sum(getattr(file, name) for file in self.files)
            for name in ("read", "accepted", "quarantined", "duplicate", "leaked", "held_out")
        }
        return FileLedger(file="all", role="domain", source=0, **counts)

    @property
    def training_rows(self) -> int:
        """Accepted rows that training draws from: without those that are scored."""
        return sum(file.accepted for file in self.files if file.role in ("domain", "replay"))

    @property
    def scored_rows(self) -> int:
        """Accepted rows of suites, and those that were held out."""
        return sum(f.held_out + (f.accepted if f.role.endswith("_suite") else 0) for f in self.files)

    def require_balance(self) -> Self:
        """Return self if every row of every file is in exactly one place.

        Raises:
            LedgerImbalance: naming the first file whose counts do not add up.
        """
        for file in self.files:
            if file.read != file.placed:
                raise LedgerImbalance(f"{file.file}: read {file.read} rows but placed {file.placed}")
            if file.quarantined != sum(file.reasons.values()):
                raise LedgerImbalance(
                    f"{file.file}: {file.quarantined} quarantined, reasons say {file.reasons}"
                )
        return self


Severity = Literal["critical", "warning", "info"]


class RuleResult(Schema):
    """One contract rule over the whole dataset, shards merged."""

    contract: str
    rule: str
    """Stable id of the rule: the ODCS quality item's `id`, or `<property>.required` and the like."""
    description: str
    severity: Severity
    success: bool
    checked: int
    """Rows the rule looked at."""
    unexpected: int
    """Rows that broke it (0 for a table rule such as a row count)."""
    allowed_ratio: float = 0.0
    """Share of rows that may break it."""
    observed: float | None = None
    """Value of a table rule, such as the row count."""
    places: tuple[str, ...] = ()
    """`file:line` of the first rows that broke it, at most 20; never their content."""


class GateReport(Schema):
    """A dataset against its contract. `passed` is decided by critical rules alone."""

    contract: str
    version: str
    dataset: str
    """Name people know the data by: the source's path."""
    rows: int
    passed: bool
    rules: tuple[RuleResult, ...]
    again: str = ""
    """The command that holds the same data against the same contract."""


class ReplayShare(Schema):
    """What one replay source gave."""

    path: str
    requested_tokens: int
    trained_tokens: int
    epochs: float
    """Times the source was gone through."""


class LabelShare(Schema):
    """How often the domain documents of one label are trained, where mixture.class_temperature repeats some."""

    label: str
    documents: int
    trained_documents: int
    """Over the whole run, repetitions counted."""


class MixtureReport(Schema):
    """The mixture as asked and as made, in label tokens."""

    requested_ratio: float
    achieved_ratio: float
    domain_tokens: int
    replay_tokens: int
    domain_epochs: float
    """Passes over the domain, repeated documents of rare labels included."""
    replay: tuple[ReplayShare, ...]
    sequences: int
    sequence_length: int
    fill_ratio: float
    """Share of positions that are not padding."""
    steps: int
    sequences_per_step: int
    labels: tuple[LabelShare, ...] = ()
    """Of the domain, where they are balanced."""


Verdict = Literal["promote", "reject", "inconclusive"]


class RuleOutcome(Schema):
    """One rule of the verdict: an estimate with its interval against a threshold."""

    rule: Literal["gain", "forgetting", "absolute"]
    suite: str
    against: Literal["base", "champion", "limit", "floor"]
    """`limit`: a number of promotion.absolute; `floor`: what knowing nothing of the suite but frequencies would score."""
    estimate: float
    """Gain: how much better. Forgetting: how much worse. Absolute: how much better than the limit. In the scores' unit,
    whichever way that is better."""
    low: float
    high: float
    """One-sided bounds at the promotion's confidence."""
    threshold: float
    outcome: Literal["pass", "fail", "undecided"]
    reason: str
    """One plain sentence."""
    clusters: int
    clusters_needed: int | None = None
    """If undecided: groups of this size that would decide at the present estimate (None: no number would)."""


class Bindings(Schema):
    """sha256 of everything a decision rests on."""

    spec: str
    data: str
    scores: str
    weights: str
    base: str


class Decision(Schema):
    """`decision.json`: the verdict, every rule, what it is bound to, and what to do next."""

    verdict: Verdict
    sentence: str
    """The verdict in one sentence with its numbers."""
    rules: tuple[RuleOutcome, ...]
    next_action: str
    bindings: Bindings
    realignment: Realignment | None = None
    """Before a rejection for forgetting: whether it comes back at once. It has no part in the verdict."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        outcomes = {rule.outcome for rule in self.rules}
        expected = (
            "reject" if "fail" in outcomes else "inconclusive" if "undecided" in outcomes else "promote"
        )
        if self.verdict != expected:
            raise ValueError(
                f"verdict '{self.verdict}' does not follow from the rules (they say '{expected}')"
            )
        return self


class StepMetrics(Schema):
    """One line of `metrics.jsonl`."""

    step: int
    loss: float
    """Mean nats per label token (per label, for a head) since the last line."""
    learning_rate: float
    grad_norm: float
    tokens_per_second: float
    peak_memory_bytes: int
    seconds: float
    """Since training (this process) started."""


class Lineage(Schema):
    """`lineage.json`: sha256 of everything that made the model."""

    run: str
    spec: str
    data: dict[str, str]
    """file -> sha256"""
    contracts: dict[str, str]
    code: str
    base: str
    base_name: str
    weights: str
    versions: dict[str, str]
    """library -> version"""
    steps: dict[str, str] = Field(default_factory=dict)
    """step -> key of its folder"""
