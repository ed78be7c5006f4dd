"""The one way to standard output and standard error: whatever is printed is visible, and only we format it."""

import re
import sys
from typing import TYPE_CHECKING, Any

from schemas.visible import json_text, printable
from tasks.storage.stderr import tell as tell

if TYPE_CHECKING:
    from rich.console import Console


_UNDECIDED = re.compile(r"(?:^\s*:|#[#a-z]*)$")
"""An end of a line that may yet become an order to a build server."""


def say(text: object = "", end: str = "\n", flush: bool = False) -> None:
    """Print a result on standard output. Newlines are ours; a value that may hold some goes through `visible` first."""
    print(printable(str(text)), end=end, flush=flush)


def say_json(value: Any, indent: int | None = None) -> None:
    """Print one JSON value on standard output."""
    print(json_text(value, indent))


def give_order(line: str) -> None:
    """Print a line that a build server is to obey: one that we made."""
    print(line)


class Pieces:
    """Text that arrives in pieces, printed as it comes; what a line begins with is held until it is known to be harmless."""

    def __init__(self) -> None:
        self.line, self.shown = "", 0

    def say(self, piece: str, last: bool = False) -> None:
        *done, self.line = (self.line + piece).split("\n")
        for line in done:
            print(printable(line)[self.shown :], flush=True)
            self.shown = 0
        known = self.line if last else _UNDECIDED.sub("", self.line)
        print((text := printable(known))[self.shown :], end="", flush=True)
        self.shown = max(self.shown, len(text))


def console(stderr: bool = False, **settings: Any) -> "Console":
    """A rich console that takes no text for markup, emoji or something to highlight."""
    from rich.console import Console

    return Console(stderr=stderr, markup=False, emoji=False, highlight=False, **settings)


def show_table(title: str, rows: list[dict[str, Any]]) -> None:
    """Rows as a table for people; their keys are its columns."""
    from rich.table import Table
    from rich.text import Text

    def cell(value: object) -> Text:
        return Text(printable(str(value)))

    table = Table(title=cell(title), title_justify="left", header_style="bold")
    for name in rows[0] if rows else ["nothing"]:
        table.add_column(cell(name), overflow="fold")
    for row in rows:
        table.add_row(*(cell(written(value)) for value in row.values()))
    console().print(table)


def written(value: object) -> str:
    """A value as people read it: thousands apart, no digits that say nothing."""
    if isinstance(value, float):
        return f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def never_fail_to_encode() -> None:
    """A terminal of another encoding than the text shows escapes instead of ending the program."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
