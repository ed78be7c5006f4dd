"""What one row of data must look like, and why a row can be refused."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from schemas.objectives import ObjectiveKind


class ReasonCode(StrEnum):
    """Why a row was quarantined. Codes are stable: people filter on them."""

    MALFORMED_JSON = "malformed_json"
    TRUNCATED_LINE = "truncated_line"
    NOT_AN_OBJECT = "not_an_object"
    MISSING_FIELD = "missing_field"
    WRONG_TYPE = "wrong_type"
    EMPTY_TEXT = "empty_text"
    UNDECODABLE = "undecodable"
    NUL_CHARACTER = "nul_character"
    LONE_SURROGATE = "lone_surrogate"
    LINE_TOO_LONG = "line_too_long"
    WRONG_COLUMN_COUNT = "wrong_column_count"
    UNCLOSED_QUOTE = "unclosed_quote"
    EMPTY_LABEL = "empty_label"
    UNKNOWN_LABEL = "unknown_label"
    LENGTH_MISMATCH = "length_mismatch"
    BAD_TAG = "bad_tag"


class Text(BaseModel):
    """Running text for language modelling. Keys that are not fields are other people's business: ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    text: Annotated[str, StringConstraints(pattern=r"\S")]
    group: str | int | None = None


class LabeledText(BaseModel):
    """A text and its label; a label that is a whole number is taken as its digits."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    text: Annotated[str, StringConstraints(pattern=r"\S")]
    label: Annotated[str, StringConstraints(pattern=r"\S")] | int
    group: str | int | None = None


class TaggedTokens(BaseModel):
    """A text as words, and one tag a word."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    tokens: Annotated[list[Annotated[str, StringConstraints(pattern=r"\S")]], Field(min_length=1)]
    tags: list[str]
    group: str | int | None = None


class Instruction(BaseModel):
    """A prompt and the response to it; `context` is what the prompt is about, where a data set keeps the two apart."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    prompt: Annotated[str, StringConstraints(pattern=r"\S")]
    response: Annotated[str, StringConstraints(pattern=r"\S")]
    context: str | None = None
    group: str | int | None = None


RecordKind = Literal["text", "labeled_text", "tagged_tokens", "instruction"]
RECORD_OF: dict[ObjectiveKind, RecordKind] = {
    "language_modeling": "text",
    "instruction": "instruction",
    "text_classification": "labeled_text",
    "token_classification": "tagged_tokens",
}
FIELDS: dict[RecordKind, tuple[str, ...]] = {
    "text": ("text",),
    "labeled_text": ("text", "label"),
    "tagged_tokens": ("tokens", "tags"),
    "instruction": ("prompt", "response", "context"),
}
"""Kind of record -> the fields that columns are mapped to."""
FORMATS: dict[RecordKind, tuple[str, ...]] = {
    "text": ("txt", "jsonl", "json", "csv", "tsv"),
    "labeled_text": ("jsonl", "json", "csv", "tsv"),
    "tagged_tokens": ("conll", "jsonl", "json"),
    "instruction": ("jsonl", "json", "csv", "tsv"),
}
"""Kind of record -> the formats that can hold it."""
TOLD_BY: dict[RecordKind, str] = {"labeled_text": "label", "tagged_tokens": "tags", "instruction": "prompt"}
"""Kind of record -> the property of a contract that tells it; a contract with none of them is for text."""
LAYOUTS: dict[str, dict[str, str]] = {
    "prompt/response": {"prompt": "prompt", "response": "response", "context": "context"},
    "prompt/completion": {"prompt": "prompt", "response": "completion"},
    "alpaca": {"prompt": "instruction", "response": "output", "context": "input"},
    "dolly": {"prompt": "instruction", "response": "response", "context": "context"},
    "question/answer": {"prompt": "question", "response": "answer"},
    "query/response": {"prompt": "query", "response": "response"},
}
"""Layouts of instruction files in the wild -> field of the record -> its key; a file has one if it has prompt and response."""
