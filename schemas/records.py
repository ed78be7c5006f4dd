"""What one row of data must look like, and why a row can be refused."""

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints


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


class Text(BaseModel):
    """Running text for language modelling. Keys that are not fields are other people's business: ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    text: Annotated[str, StringConstraints(pattern=r"\S")]
    group: str | int | None = None
