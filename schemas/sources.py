"""Where data comes from: files, their format and the contract they must keep."""

from typing import Literal

from pydantic import Field

from schemas.base import Schema

Format = Literal["txt", "jsonl", "json", "csv", "tsv"]


class Columns(Schema):
    """Names of the columns (CSV, TSV) or keys (JSON) that hold each field of a record."""

    text: str = "text"
    """Column that holds the text."""


class Source(Schema):
    """One set of files that share a format and a contract."""

    path: str = Field(min_length=1)
    """File or glob, relative to the working directory; `$NAME` is read from the environment."""
    contract: str
    """Name of a contract in data_contracts/, or the path of an `.odcs.yaml` file."""
    format: Format | None = None
    """Format of the files; by default told by their extension (`.gz` and `.zst` of each are read too)."""
    document: Literal["line", "paragraph"] = "line"
    """txt only: what one record is, a line or a block between blank lines."""
    encoding: str | None = None
    """Character encoding; by default UTF-8 where the bytes are UTF-8, otherwise detected per file."""
    columns: Columns = Columns()
    """Which columns hold the fields (jsonl, json, csv, tsv)."""
    group: str | None = None
    """Column whose equal values must stay on one side of a split, and are one cluster in the statistics."""
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Share of this source among the replay sources (relative to the others' weights)."""
