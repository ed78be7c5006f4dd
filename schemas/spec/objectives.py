"""What the model learns to do. An objective's settings say what it is capable of; nothing else asks for its kind."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from schemas.base import Schema
from schemas.spec.records import RecordKind

if TYPE_CHECKING:
    from schemas.spec.run import RunSpec

HeadUnit = Literal["accuracy", "macro F1", "entity F1"]
Name = Annotated[str, StringConstraints(pattern=r"^\S(.*\S)?$")]


class ObjectiveSettings(Schema):
    """What is known of an objective before any model is loaded."""

    record: ClassVar[RecordKind | None] = None
    """What one row of its sources is; None: each source's task says it."""
    new_head: ClassVar[bool] = False
    """Puts a new head on the base model."""
    learns_text: ClassVar[bool] = False
    """Learns running text as it was before, so that losses on its rows and on general text are of one kind."""
    mixes_records: ClassVar[bool] = False
    """Replay and general suites may be of another record, such as running text."""
    tags_words: ClassVar[bool] = False
    """Learns a tag for each word of a text."""
    one_label: ClassVar[bool] = False
    """Each text has exactly one label: documents can be drawn by it, and a text told by its domain."""
    undrawn: ClassVar[str | None] = None
    """Why documents cannot be drawn by their labels, and what to do."""

    kind: str

    @property
    def task_names(self) -> tuple[str, ...]:
        """Names of its tasks, if there are several: each source says which one it is for."""
        return ()

    @property
    def head_unit(self) -> HeadUnit:
        """What the answers of its head are measured in."""
        raise TypeError(f"{self.kind} has no single head")

    @property
    def known_labels(self) -> tuple[str, ...] | None:
        """Labels (or entity types) that rows may have, in the order of the outputs; None: any, or there are none."""
        return None

    @property
    def task_weights(self) -> dict[str, float]:
        """Share of the loss of each of several tasks, relative to one another."""
        return {}

    @property
    def prompt_template(self) -> Literal["plain", "chat"] | None:
        """What stands around prompts, if its records have them."""
        return None

    @property
    def answer_tokens(self) -> int | None:
        """Where prompts are answered: an answer ends after so many tokens."""
        return None

    @property
    def generates(self) -> bool:
        """Whether suites are scored by text that the model writes."""
        return False

    def of_task(self, task: str | None) -> "Objective":  # noqa: ARG002
        """What is learnt from a source that names this task."""
        return self  # type: ignore[return-value]

    def problems(self, spec: "RunSpec") -> Iterator[str]:  # noqa: ARG002
        """What in the rest of a specification contradicts it, one `key: what; fix` each."""
        yield from ()


class LanguageModeling(ObjectiveSettings):
    """Predict the next token of running text."""

    record: ClassVar[RecordKind] = "text"
    learns_text: ClassVar[bool] = True

    kind: Literal["language_modeling"] = "language_modeling"


class TextClassification(ObjectiveSettings):
    """Give a whole text one of a set of labels, with a new head on the base model."""

    record: ClassVar[RecordKind] = "labeled_text"
    new_head: ClassVar[bool] = True
    one_label: ClassVar[bool] = True

    kind: Literal["text_classification"] = "text_classification"
    labels: tuple[Name, ...] | None = Field(default=None, min_length=2)
    """The labels, in the order of the model's outputs; by default those of the training rows, sorted. Rows with any
    other label go to quarantine."""
    metric: Literal["accuracy", "macro_f1"] = "accuracy"
    """What gain and forgetting are measured in: share of right answers, or the labels' F1 averaged evenly."""

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        _require_distinct(self.labels)
        return self

    @property
    def head_unit(self) -> HeadUnit:
        """See ObjectiveSettings."""
        return "macro F1" if self.metric == "macro_f1" else "accuracy"

    @property
    def known_labels(self) -> tuple[str, ...] | None:
        """See ObjectiveSettings."""
        return self.labels


class TokenClassification(ObjectiveSettings):
    """Tag the words of a text, with a new head on the base model; entities are scored by their exact spans."""

    record: ClassVar[RecordKind] = "tagged_tokens"
    new_head: ClassVar[bool] = True
    tags_words: ClassVar[bool] = True
    undrawn: ClassVar[str] = "a text with tags has many labels, not one to draw it by; remove it"

    kind: Literal["token_classification"] = "token_classification"
    labels: tuple[Name, ...] | None = Field(default=None, min_length=1)
    """The entity types (such as PER), without B- and I-; by default those of the training rows, sorted. Rows with any
    other type go to quarantine."""

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        _require_distinct(self.labels)
        return self

    @property
    def head_unit(self) -> HeadUnit:
        """See ObjectiveSettings."""
        return "entity F1"

    @property
    def known_labels(self) -> tuple[str, ...] | None:
        """See ObjectiveSettings."""
        return self.labels


class InstructionTuning(ObjectiveSettings):
    """Answer a prompt: only the tokens of the response are learnt."""

    record: ClassVar[RecordKind] = "instruction"
    mixes_records: ClassVar[bool] = True

    kind: Literal["instruction"] = "instruction"
    template: Literal["plain", "chat"] = "plain"
    """What stands around a prompt. `plain`: `### Instruction:` and `### Response:`, the same for every base. `chat`: the
    base's own chat template (a base without one is refused), its thinking switched off."""
    metric: Literal["loss", "exact_match"] = "loss"
    """What gain is measured in: nats per response token, or the share of prompts whose generated final answer is right."""
    max_new_tokens: int = Field(default=256, ge=1, le=2**20)
    """exact_match: a generated response ends after so many tokens, if it has not ended before."""

    @model_validator(mode="after")
    def _used(self) -> Self:
        if self.metric == "loss" and self.max_new_tokens != 256:
            raise ValueError(
                "max_new_tokens: metric 'loss' generates nothing; remove it or choose exact_match"
            )
        return self

    @property
    def prompt_template(self) -> Literal["plain", "chat"]:
        """See ObjectiveSettings."""
        return self.template

    @property
    def answer_tokens(self) -> int:
        """See ObjectiveSettings."""
        return self.max_new_tokens

    @property
    def generates(self) -> bool:
        """See ObjectiveSettings."""
        return self.metric == "exact_match"

    def problems(self, spec: "RunSpec") -> Iterator[str]:
        """See ObjectiveSettings."""
        if spec.from_scratch:
            yield "objective.kind: a model from scratch knows no language yet; train it with language_modeling first"
        if not self.generates:
            return
        texts = {source.record == "text" for source in spec.evaluation.general}
        if len(texts) > 1:
            yield (
                "evaluation.general: with metric exact_match, suites of text are measured in nats per token and those of"
                " instructions in right answers, and promotion.max_forgetting is one number; keep one kind"
            )
        if spec.promotion.min_gain >= 1:
            yield "promotion.min_gain: is a fraction of 1 here (right answers); 2 % is 0.02"
        if False in texts and spec.promotion.max_forgetting >= 1:
            yield "promotion.max_forgetting: is a fraction of 1 here (right answers); 2 % is 0.02"


class Task(Schema):
    """One of several tasks that are learnt together, with outputs of its own on the shared body."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,30}$")
    """What sources, suites and adapters call it: lower case, digits, `-` and `_`."""
    kind: Literal["text_classification", "token_classification"]
    """What the task does with a text; see the objective of this name."""
    labels: tuple[Name, ...] | None = Field(default=None, min_length=1)
    """As in the objective of this kind."""
    metric: Literal["accuracy", "macro_f1"] | None = None
    """text_classification: what gain and forgetting are measured in; accuracy where not given."""
    weight: float = Field(default=1.0, gt=0, le=10**6, allow_inf_nan=False)
    """Share of the loss, relative to the other tasks' weights, however many labels each has."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _require_distinct(self.labels)
        if self.kind == "token_classification" and self.metric is not None:
            raise ValueError("metric: entities are scored by their exact spans; remove it")
        if self.kind == "text_classification" and self.labels is not None and len(self.labels) < 2:
            raise ValueError("labels: one label is nothing to tell apart; give at least two")
        return self

    @property
    def objective(self) -> TextClassification | TokenClassification:
        """The same task learnt alone."""
        if self.kind == "token_classification":
            return TokenClassification(labels=self.labels)
        return TextClassification(labels=self.labels, metric=self.metric or "accuracy")


class MultiTask(ObjectiveSettings):
    """Learn several tasks at once: one body, and outputs of its own for each task."""

    new_head: ClassVar[bool] = True
    undrawn: ClassVar[str] = (
        "each of several tasks has labels of its own; remove it (the weight of a task is its share of the loss)"
    )

    kind: Literal["multi_task"] = "multi_task"
    tasks: tuple[Task, ...] = Field(min_length=2)
    """The tasks; each source says with `task: NAME` which one it is for."""

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [task.name for task in self.tasks]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"two tasks are called {twice}; give each a name of its own")
        return self

    @property
    def named(self) -> dict[str, Task]:
        """The tasks by name, in their order."""
        return {task.name: task for task in self.tasks}

    @property
    def task_names(self) -> tuple[str, ...]:
        """See ObjectiveSettings."""
        return tuple(self.named)

    @property
    def task_weights(self) -> dict[str, float]:
        """See ObjectiveSettings."""
        return {task.name: task.weight for task in self.tasks}

    def of_task(self, task: str | None) -> "Objective":
        """See ObjectiveSettings."""
        return self.named[str(task)].objective

    def problems(self, spec: "RunSpec") -> Iterator[str]:
        """Tasks that nothing would train, or nothing would score."""
        for index, task in enumerate(self.tasks):
            for key, sources in (("domain", spec.domain), ("evaluation.domain", spec.evaluation.domain)):
                if sources and task.name not in [source.task for source in sources]:
                    yield (
                        f"objective.tasks.{index}: no source of {key} is for task {task.name};"
                        f" add one with `task: {task.name}`, or remove the task"
                    )


def _require_distinct(labels: tuple[str, ...] | None) -> None:
    if labels is not None and len(set(labels)) < len(labels):
        raise ValueError("a label is given twice; keep one of each")


Objective = Annotated[
    LanguageModeling | InstructionTuning | TextClassification | TokenClassification | MultiTask,
    Field(discriminator="kind"),
]
ObjectiveKind = Literal[
    "language_modeling", "instruction", "text_classification", "token_classification", "multi_task"
]
OBJECTIVES: dict[ObjectiveKind, type[ObjectiveSettings]] = {
    "language_modeling": LanguageModeling,
    "instruction": InstructionTuning,
    "text_classification": TextClassification,
    "token_classification": TokenClassification,
    "multi_task": MultiTask,
}


def head_kind(objective: Objective) -> ObjectiveKind:
    """What kind of model serves an objective: tasks that tag words need an output at every word.

    Tasks on whole texts share such a model by reading their label at the text's last token.
    """
    if not objective.task_names:
        return objective.kind
    tags = any(objective.of_task(name).tags_words for name in objective.task_names)
    return "token_classification" if tags else "text_classification"
