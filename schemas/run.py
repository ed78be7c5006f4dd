"""The run specification: one YAML file that names data, mixture, method and what must hold at the end."""

from typing import Literal, Self

from pydantic import Field, model_validator

from schemas.base import Schema
from schemas.base_model import Base, FromScratch
from schemas.evaluation import Evaluation
from schemas.increments import Increment, Increments
from schemas.methods import Full, Method
from schemas.mixture import INCREMENTS_RATIO, Mixture, budget_problems, class_problems
from schemas.objectives import (
    HEADS,
    RECORD_OF,
    InstructionTuning,
    LanguageModeling,
    MultiTask,
    Objective,
    ObjectiveKind,
    head_kind,
)
from schemas.own_text import OwnText
from schemas.promotion import Promotion
from schemas.records import RecordKind
from schemas.remedies import Remedy
from schemas.remedy_rules import remedy_problems
from schemas.source_rules import dead_settings, task_problem
from schemas.sources import Source
from schemas.training import Training


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

    @property
    def record(self) -> RecordKind:
        """What one row of every source is, if the objective is one task."""
        return RECORD_OF[self.objective.kind]

    def record_of(self, source: Source) -> RecordKind:
        """What one row of this source is."""
        return source.record or RECORD_OF[self.objective_of(source).kind]

    @property
    def labels(self) -> tuple[str, ...] | None:
        """Labels (or entity types) that rows may have; None: any, or the objective has none."""
        return self._labels_of(self.objective)

    @property
    def head_kind(self) -> ObjectiveKind:
        """What kind of model serves the objective."""
        return head_kind(self.objective)

    def objective_of(self, source: Source) -> Objective:
        """What is learnt from a source: of several tasks, its own."""
        if isinstance(self.objective, MultiTask):
            return self.objective.named[str(source.task)].objective
        return self.objective

    def labels_of(self, source: Source) -> tuple[str, ...] | None:
        """Labels (or entity types) that rows of this source may have; None: any, or there are none."""
        return self._labels_of(self.objective_of(source))

    @staticmethod
    def _labels_of(objective: Objective) -> tuple[str, ...] | None:
        return getattr(objective, "labels", None)

    @property
    def has_general(self) -> bool:
        """Whether there is general text: in files, or written by the base."""
        return bool(self.replay) or self.writes_own_text

    @property
    def writes_own_text(self) -> bool:
        """Whether the base writes replay text."""
        return any(remedy.kind == "self_replay" for remedy in self.remedies)

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
        if isinstance(self.base, FromScratch) and self.method.kind != "full":
            problems.append(
                "method.kind: a model from scratch can only be trained with method 'full'; write method: {kind: full}"
            )
        if self.training.gradient_checkpointing and not self.method.checkpoints_activations:
            problems.append(
                f"training.gradient_checkpointing: method '{self.method.kind}' does not train with it; set it to false"
            )
        if self.method.needs_task_head and self.objective.kind not in HEADS:
            problems.append(
                f"method.kind: '{self.method.kind}' trains a task's new head, and this objective has none;"
                " choose selective, whose patterns can name the output layer"
            )
        if self.method.has_task_modules and not isinstance(self.objective, MultiTask):
            problems.append(
                "method.per_task: only objective multi_task has several tasks; set it to false, or name the tasks"
            )
        pull = self.method.anchor_strength or 0.0 if isinstance(self.method, Full) else 0.0
        if (
            self.method.kind == "full"
            and self.method.anchor == "decay_to_base"
            and self.training.learning_rate * pull >= 1
        ):
            problems.append(
                "method.anchor_strength: times training.learning_rate it is the whole way back to the base;"
                " lower one of them until it is below 1"
            )
        if self.mixture.replay_ratio and not self.has_general and self.increments is None:
            problems.append(
                "mixture.replay_ratio: is above 0 but there are no replay sources; add replay or set it to 0"
            )
        problems += budget_problems(
            self.mixture.forgetting_budget,
            replay=self.has_general,
            scratch=isinstance(self.base, FromScratch),
            head=self.objective.kind in HEADS,
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
        problems += class_problems(self.mixture, self.objective.kind)
        if (self.evaluation.domain_holdout is None) == (not self.evaluation.domain):
            problems.append(
                "evaluation: give exactly one of domain_holdout and domain; domain_holdout: 0.1 keeps a tenth of the domain's rows"
            )
        problems += remedy_problems(self)
        scratch, head = isinstance(self.base, FromScratch), self.objective.kind in HEADS
        if not self.evaluation.general and not scratch and not head:
            problems.append(
                "evaluation.general: at least one general suite is needed to measure forgetting; name text that the base is good at"
            )
        if scratch and self.evaluation.general:
            problems.append("evaluation.general: a model from scratch has nothing to forget; remove it")
        problems += self._instruction_problems(scratch)
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
                    self.objective.kind != "instruction" or key not in ("replay", "evaluation.general")
                ):
                    found.append(
                        "record: only replay and general suites of objective instruction have it; remove it"
                    )
                problems += [f"{key}.{index}.{text}" for text in found]
        problems += self._tasks_without_sources()
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _instruction_problems(self, scratch: bool) -> list[str]:
        """What contradicts an objective of prompts and responses."""
        objective = self.objective
        if not isinstance(objective, InstructionTuning):
            return []
        problems = []
        if scratch:
            problems.append(
                "objective.kind: a model from scratch knows no language yet; train it with language_modeling first"
            )
        if objective.metric == "loss":
            return problems
        texts = {source.record == "text" for source in self.evaluation.general}
        if len(texts) > 1:
            problems.append(
                "evaluation.general: with metric exact_match, suites of text are measured in nats per token and those of"
                " instructions in right answers, and promotion.max_forgetting is one number; keep one kind"
            )
        if self.promotion.min_gain >= 1:
            problems.append("promotion.min_gain: is a fraction of 1 here (right answers); 2 % is 0.02")
        if False in texts and self.promotion.max_forgetting >= 1:
            problems.append("promotion.max_forgetting: is a fraction of 1 here (right answers); 2 % is 0.02")
        return problems

    def _tasks_without_sources(self) -> list[str]:
        """Tasks that nothing would train, or nothing would score."""
        if not isinstance(self.objective, MultiTask):
            return []
        problems = []
        for index, task in enumerate(self.objective.tasks):
            for key, sources in (("domain", self.domain), ("evaluation.domain", self.evaluation.domain)):
                if sources and task.name not in [source.task for source in sources]:
                    problems.append(
                        f"objective.tasks.{index}: no source of {key} is for task {task.name};"
                        f" add one with `task: {task.name}`, or remove the task"
                    )
        return problems

    def _increments(self) -> list[str]:
        """What contradicts `increments`."""
        problems: list[str] = []
        if self.increments is None:
            return [] if self.increment is None else ["increment: is written by Rootstock; remove it"]
        if self.objective.kind != "language_modeling":
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
