"""What the model learns to do."""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from schemas.base import Schema

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
    max_new_tokens: int = Field(default=256, ge=1)
    """exact_match: a generated response ends after so many tokens, if it has not ended before."""

    @model_validator(mode="after")
    def _used(self) -> Self:
        if self.metric == "loss" and self.max_new_tokens != 256:
            raise ValueError(
                "max_new_tokens: metric 'loss' generates nothing; remove it or choose exact_match"
            )
        return self


def _require_distinct(labels: tuple[str, ...] | None) -> None:
    if labels is not None and len(set(labels)) < len(labels):
        raise ValueError("a label is given twice; keep one of each")


Objective = Annotated[
    LanguageModeling | InstructionTuning | TextClassification | TokenClassification,
    Field(discriminator="kind"),
]
ObjectiveKind = Literal["language_modeling", "instruction", "text_classification", "token_classification"]
HEADS: tuple[ObjectiveKind, ...] = ("text_classification", "token_classification")
"""Objectives that put a new head on the base model."""
