"""The run specification: one YAML file that names data, mixture, method and what must hold at the end."""

from typing import Literal, Self

from pydantic import Field, model_validator

from schemas.base import Schema
from schemas.spec.base_model import Base, FromScratch
from schemas.spec.evaluation import Evaluation
from schemas.spec.increments import Increment, Increments
from schemas.spec.methods.union import Full, Method
from schemas.spec.mixture import INCREMENTS_RATIO, Mixture, budget_problems, class_problems
from schemas.spec.objectives import (
    LanguageModeling,
    Objective,
    ObjectiveKind,
    head_kind,
)
from schemas.spec.own_text import OwnText
from schemas.spec.promotion import Promotion
from schemas.spec.records import RecordKind
from schemas.spec.remedies import Remedy
from schemas.spec.remedy_rules import remedy_problems
from schemas.spec.source_rules import dead_settings, task_problem
from schemas.spec.sources import Source
from schemas.spec.training import Training


class RunSpec(Schema):
    """One workflow, from files to verdict."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")
    """Name in the registry and prefix of run names: lower case, digits, `-` and `_`."""
    base: Base | None = None
    """Model to start from: a folder, a Hub id, or `{from_scratch: {...}}`."""
    base_from: Literal["champion"] | None = None
    """`champion`: continue from the promoted model of this name (instead of `base`)."""
    objective: Objective = LanguageModeling()
    """What the model learns to do."""
    domain: tuple[Source, ...] = Field(min_length=1)
    """The text to learn."""
    replay: tuple[Source, ...] = ()
    """General text that is mixed in so that the model does not forget."""
    mixture: Mixture = Mixture()
    """How much replay."""
    method: Method = Full()
    """How the model is tuned."""
    remedies: tuple[Remedy, ...] = ()
    """What is done against forgetting, besides replay; `rootstock remedies` lists them."""
    training: Training
    """Length, batch and learning rate."""
    evaluation: Evaluation
    """What is scored before and after."""
    promotion: Promotion = Promotion()
    """What must hold for a promotion."""
    increments: Increments | None = None
    """The files of `domain` grow, and each run learns what is new ([guide](guides/increments.md))."""
    increment: Increment | None = None
    """Written by Rootstock into the specification of one increment's run; leave it out."""

    def record_of(self, source: Source) -> RecordKind:
        """What one row of this source is."""
        record = source.record or self.objective_of(source).record
        assert record is not None, "a task is one of the objectives that have a record"
        return record

    @property
    def head_kind(self) -> ObjectiveKind:
        """What kind of model serves the objective."""
        return head_kind(self.objective)

    def objective_of(self, source: Source) -> Objective:
        """What is learnt from a source: of several tasks, its own."""
        return self.objective.of_task(source.task)

    def labels_of(self, source: Source) -> tuple[str, ...] | None:
        """Labels (or entity types) that rows of this source may have; None: any, or there are none."""
        return self.objective_of(source).known_labels

    @property
    def from_scratch(self) -> bool:
        """Whether the model begins with random weights."""
        return isinstance(self.base, FromScratch)

    @property
    def has_general(self) -> bool:
        """Whether there is general text: in files, or written by the base."""
        return bool(self.replay) or self.writes_own_text

    @property
    def writes_own_text(self) -> bool:
        """Whether the base writes replay text."""
        return any(remedy.writes_text for remedy in self.remedies)

    @property
    def own_text(self) -> OwnText | None:
        """The replay source that the base wrote itself; only the effective specification has one."""
        return next((source for source in self.replay if isinstance(source, OwnText)), None)

    @property
    def contracts(self) -> tuple[str, ...]:
        """Contracts that are named beside those of sources: text that is yet to be written must keep them."""
        return tuple(name for remedy in self.remedies for name in remedy.contracts)

    @property
    def reads_replay(self) -> bool:
        """Whether the replay sources are read: to train on them, or for a remedy that measures on general text."""
        measured = any(r.general_sample or r.development_sample for r in self.remedies)
        return self.mixture.replay_ratio != 0 or measured

    @model_validator(mode="after")
    def _ratio_with_increments(self) -> Self:
        """Half of the tokens are replay by default where the domain grows."""
        mixture = self.mixture
        if self.increments is None or mixture.forgetting_budget or "replay_ratio" in mixture.model_fields_set:
            return self
        given = mixture.model_copy(update={"replay_ratio": INCREMENTS_RATIO})
        object.__setattr__(self, "mixture", given)  # frozen for everybody else
        return self

    @model_validator(mode="after")
    def _combination(self) -> Self:
        """Refuse settings that contradict each other or would do nothing."""
        problems: list[str] = []
        problems += self._increments()
        if (self.base is None) == (self.base_from is None):
            problems.append(
                "base: give exactly one of base and base_from; base names a model, `base_from: champion` the one in use"
            )
        if self.from_scratch and not self.method.from_scratch:
            problems.append(
                "method.kind: a model from scratch can only be trained with method 'full'; write method: {kind: full}"
            )
        if self.training.gradient_checkpointing and not self.method.checkpoints_activations:
            problems.append(
                f"training.gradient_checkpointing: method '{self.method.kind}' does not train with it; set it to false"
            )
        if self.method.needs_task_head and not self.objective.new_head:
            problems.append(
                f"method.kind: '{self.method.kind}' trains a task's new head, and this objective has none;"
                " choose selective, whose patterns can name the output layer"
            )
        if self.method.has_task_modules and not self.objective.task_names:
            problems.append(
                "method.per_task: only objective multi_task has several tasks; set it to false, or name the tasks"
            )
        problems += self.method.problems(self)
        if self.mixture.replay_ratio and not self.has_general and self.increments is None:
            problems.append(
                "mixture.replay_ratio: is above 0 but there are no replay sources; add replay or set it to 0"
            )
        problems += budget_problems(
            self.mixture.forgetting_budget,
            replay=self.has_general,
            scratch=self.from_scratch,
            head=self.objective.new_head,
            allowed=self.promotion.max_forgetting,
        )
        for name in ("temperature", "importance"):
            if self.mixture.replay_ratio == 0 and getattr(self.mixture, name) is not None:
                problems.append(
                    f"mixture.{name}: chooses replay text, but replay_ratio is 0; remove it or raise the ratio"
                )
        if self.mixture.temperature is not None and len(self.replay) + self.writes_own_text < 2:
            problems.append(
                "mixture.temperature: weighs replay sources against each other; name two or more, or remove it"
            )
        problems += class_problems(self.mixture, self.objective)
        if (self.evaluation.domain_holdout is None) == (not self.evaluation.domain):
            problems.append(
                "evaluation: give exactly one of domain_holdout and domain; domain_holdout: 0.1 keeps a tenth of the domain's rows"
            )
        problems += remedy_problems(self)
        scratch, head = self.from_scratch, self.objective.new_head
        if not self.evaluation.general and not scratch and not head:
            problems.append(
                "evaluation.general: at least one general suite is needed to measure forgetting; name text that the base is good at"
            )
        if scratch and self.evaluation.general:
            problems.append("evaluation.general: a model from scratch has nothing to forget; remove it")
        problems += self.objective.problems(self)
        for name in ("min_gain", "max_forgetting"):
            if head and getattr(self.promotion, name) >= 1:
                problems.append(
                    f"promotion.{name}: is a fraction of 1 here (accuracy or F1), so it must be below 1; 2 % is 0.02"
                )
        for key, sources in (
            ("domain", self.domain),
            ("replay", self.replay),
            ("evaluation.domain", self.evaluation.domain),
            ("evaluation.general", self.evaluation.general),
        ):
            for index, source in enumerate(sources):
                misplaced = task_problem(source, self.objective)
                if misplaced is not None:
                    problems.append(f"{key}.{index}.task: {misplaced}")
                    continue
                found = dead_settings(source, self.record_of(source), weighted=key == "replay")
                if source.record is not None and (
                    not self.objective.mixes_records or key not in ("replay", "evaluation.general")
                ):
                    found.append(
                        "record: only replay and general suites of objective instruction have it; remove it"
                    )
                problems += [f"{key}.{index}.{text}" for text in found]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _increments(self) -> list[str]:
        """What contradicts `increments`."""
        problems: list[str] = []
        if self.increments is None:
            return [] if self.increment is None else ["increment: is written by Rootstock; remove it"]
        if not self.objective.learns_text:
            problems.append(
                f"increments: work with objective language_modeling only, not with '{self.objective.kind}'; remove it"
            )
        if self.increments.start == "champion" and not self.method.merges:
            problems.append(
                f"method.kind: '{self.method.kind}' leaves nothing to merge, so the second increment could not start from the"
                " first; set increments.start to base, or choose lora, full or another method that merges"
            )
        if self.mixture.temperature is not None:
            problems.append("mixture.temperature: increments share the replay tokens themselves; remove it")
        if self.evaluation.domain:
            problems.append(
                "evaluation.domain: with increments each one is scored on its own rows; give domain_holdout instead"
            )
        if self.increment is None and not isinstance(self.base, str):
            problems.append(
                "increments: the first one needs a model to begin with; give base a folder or a Hub id"
                " (increments.start: champion goes on from the model in use)"
            )
        return problems
