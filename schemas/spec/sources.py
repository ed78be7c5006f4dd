"""Where data comes from: files, their format and the contract they must keep."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, StringConstraints, Tag

from schemas.base import Schema

Format = Literal["txt", "jsonl", "json", "csv", "tsv", "conll"]


def _kind_of_column(value: Any) -> str:
    return "number" if isinstance(value, int | float) else "name"


Column = Annotated[
    Annotated[str, StringConstraints(min_length=1), Tag("name")]
    | Annotated[int, Field(ge=1, le=100_000), Tag("number")],
    Discriminator(_kind_of_column),
]
"""A column by its name, or by its number counted from 1."""


class Columns(Schema):
    """Names of the columns (CSV, TSV) or keys (JSON) that hold each field of a record.

    A CSV or TSV file without a header takes numbers, counted from 1, for every field; so does conll.
    """

    text: Column = "text"
    """Column that holds the text."""
    label: Column = "label"
    """text_classification: column that holds the label."""
    tokens: Column = "tokens"
    """token_classification: key that holds the list of words; in conll the column of the word (by default found)."""
    tags: Column = "tags"
    """token_classification: key that holds the list of tags; in conll the column of the tag (by default found)."""
    prompt: Column | None = None
    """instruction: column that holds the prompt. By default the layout is recognised by its keys: alpaca, dolly,
    question/answer, query/response, prompt/response or prompt/completion."""
    response: Column | None = None
    """instruction: column that holds the response; given together with `prompt`."""
    context: Column | None = None
    """instruction: column that holds what the prompt is about, if there is one."""


class Source(Schema):
    """One set of files that share a format and a contract."""

    path: str = Field(min_length=1)
    """File or glob, relative to the working directory; `$NAME` is read from the environment."""
    contract: str
    """Name of a contract in data_contracts/, or the path of an `.odcs.yaml` file."""
    format: Format | None = None
    """Format of the files; by default told by their extension (`.gz` and `.zst` of each are read too). `conll` (also
    `.bio`, `.iob2`) is one word and its tag a line, a blank line after each sentence."""
    document: Literal["line", "paragraph"] = "line"
    """txt only: what one record is, a line or a block between blank lines."""
    encoding: str | None = None
    """Character encoding; by default UTF-8 where the bytes are UTF-8, otherwise detected per file."""
    columns: Columns = Columns()
    """Which columns hold the fields (jsonl, json, csv, tsv, conll)."""
    record: Literal["text"] | None = None
    """instruction: `text` where a replay source or a general suite is running text instead of prompts and responses."""
    group: Column | None = None
    """Column whose equal values must stay on one side of a split, and are one cluster in the statistics."""
    task: str | None = None
    """multi_task: name of the task that the rows are labelled for."""
    weight: float = Field(default=1.0, gt=0, le=10**6, allow_inf_nan=False)
    """Share of this source among the replay sources (relative to the others' weights)."""
