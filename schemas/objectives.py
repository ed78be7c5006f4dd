"""What the model learns to do."""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from schemas.base import Schema
from schemas.records import RecordKind

Name = Annotated[str, StringConstraints(pattern=r"^\S(.*\S)?$")]


class LanguageModeling(Schema):
    """Predict the next token of running text."""

    kind: Literal["language_modeling"] = "language_modeling"


class TextClassification(Schema):
    """Give a whole text one of a set of labels, with a new head on the base model."""

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


class TokenClassification(Schema):
    """Tag the words of a text, with a new head on the base model; entities are scored by their exact spans."""

    kind: Literal["token_classification"] = "token_classification"
    labels: tuple[Name, ...] | None = Field(default=None, min_length=1)
    """The entity types (such as PER), without B- and I-; by default those of the training rows, sorted. Rows with any
    other type go to quarantine."""

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        _require_distinct(self.labels)
        return self


class InstructionTuning(Schema):
    """Answer a prompt: only the tokens of the response are learnt."""

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


class MultiTask(Schema):
    """Learn several tasks at once: one body, and outputs of its own for each task."""

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
RECORD_OF: dict[ObjectiveKind, RecordKind] = {
    "language_modeling": "text",
    "instruction": "instruction",
    "text_classification": "labeled_text",
    "token_classification": "tagged_tokens",
}
HEADS: tuple[ObjectiveKind, ...] = ("text_classification", "token_classification", "multi_task")
"""Objectives that put a new head on the base model."""


def head_kind(objective: Objective) -> ObjectiveKind:
    """What kind of model serves an objective: tasks that tag words need an output at every word.

    Tasks on whole texts share such a model by reading their label at the text's last token.
    """
    if not isinstance(objective, MultiTask):
        return objective.kind
    tags = any(task.kind == "token_classification" for task in objective.tasks)
    return "token_classification" if tags else "text_classification"
