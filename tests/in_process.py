"""The command line in this process: its libraries are imported once for many commands."""

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


def rootstock_here(*arguments: str, cwd: Path) -> Ended:
    """`rootstock ARGUMENTS` in `cwd`, to its exit code."""
    from flows.cli import main

    out, err = io.StringIO(), io.StringIO()
    code = 0
    with (
        _arguments(arguments),
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as done:
            code = int(done.code or 0)
    return Ended(code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def _arguments(arguments: tuple[str, ...]) -> Iterator[None]:
    before, columns = sys.argv, os.environ.get("COLUMNS")
    sys.argv, os.environ["COLUMNS"] = ["rootstock", *arguments], "200"
    try:
        yield
    finally:
        sys.argv = before
        if columns is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = columns
