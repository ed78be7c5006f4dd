"""What one row of data must look like, and why a row can be refused.

A kind of record is a class here, a line in `RecordKind` and in `RECORDS`, and its check in tasks/data/validate/checks.py.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints


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


Content = Annotated[str, StringConstraints(pattern=r"\S")]
RecordKind = Literal["text", "labeled_text", "tagged_tokens", "instruction"]
Stored = Literal["string", "large_string", "list of string", "digest"]


class Record(BaseModel):
    """One row. Keys that are not fields are other people's business: ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    holds: ClassVar[str]
    """What a file of such rows holds, in words."""
    formats: ClassVar[tuple[str, ...]]
    """Formats that can hold it."""
    told_by: ClassVar[str | None] = None
    """The property of a contract that tells it; a contract with none of them is for text."""
    stored: ClassVar[Mapping[str, Stored]] = {}
    """Columns of an accepted row besides its text, and their types."""
    layouts: ClassVar[Mapping[str, Mapping[str, str]]] = {}
    """Layouts in the wild -> field -> its key; recognised by the fields that a row must have, where no columns are given."""
    has_scheme: ClassVar[bool] = False
    """Whether its tags are written in a scheme (IOB1, IOBES, ...) that is told from the file."""

    @classmethod
    def fields(cls) -> tuple[str, ...]:
        """The fields that columns are mapped to."""
        return tuple(name for name in cls.model_fields if name != "group")

    @classmethod
    def required(cls) -> tuple[str, ...]:
        """The fields that a row must have."""
        return tuple(name for name, field in cls.model_fields.items() if field.is_required())


class Text(Record):
    """Running text for language modelling."""

    holds = "running text"
    formats = ("txt", "jsonl", "json", "csv", "tsv")

    text: Content
    group: str | int | None = None


class LabeledText(Record):
    """A text and its label; a label that is a whole number is taken as its digits."""

    holds = "texts with a label"
    formats = ("jsonl", "json", "csv", "tsv")
    told_by = "label"
    stored = {"label": "string"}

    text: Content
    label: Content | int
    group: str | int | None = None


class TaggedTokens(Record):
    """A text as words, and one tag a word. The text is the words, a blank between; tags are stored in IOB2."""

    holds = "tagged words"
    formats = ("conll", "jsonl", "json")
    told_by = "tags"
    stored = {"tokens": "list of string", "tags": "list of string"}
    has_scheme = True

    tokens: Annotated[list[Content], Field(min_length=1)]
    tags: list[str]
    group: str | int | None = None


class Instruction(Record):
    """A prompt and the response to it; `context` is what the prompt is about, where a data set keeps the two apart.

    The text is the three, a blank line between. Stored are an empty context where there is none, and the digest of what is
    asked (prompt and context).
    """

    holds = "prompts and responses"
    formats = ("jsonl", "json", "csv", "tsv")
    told_by = "prompt"
    stored = {
        "prompt": "large_string",
        "response": "large_string",
        "context": "large_string",
        "asked": "digest",
    }
    layouts = {
        "prompt/response": {"prompt": "prompt", "response": "response", "context": "context"},
        "prompt/completion": {"prompt": "prompt", "response": "completion"},
        "alpaca": {"prompt": "instruction", "response": "output", "context": "input"},
        "dolly": {"prompt": "instruction", "response": "response", "context": "context"},
        "question/answer": {"prompt": "question", "response": "answer"},
        "query/response": {"prompt": "query", "response": "response"},
    }

    prompt: Content
    response: Content
    context: str | None = None
    group: str | int | None = None


RECORDS: dict[RecordKind, type[Record]] = {
    "text": Text,
    "labeled_text": LabeledText,
    "tagged_tokens": TaggedTokens,
    "instruction": Instruction,
}
