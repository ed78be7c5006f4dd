"""`rootstock ARGUMENTS` in the process of the tests: for many commands that share one import of the libraries."""

import contextlib
import io
import sys
from typing import NamedTuple


class Said(NamedTuple):
    """A finished command."""

    code: int
    out: str
    err: str


def rootstock_here(*arguments: str) -> Said:
    """Run the command line; its exit code is what the process's would be."""
    from flows.cli import main

    before, sys.argv = sys.argv, ["rootstock", *arguments]
    out, err, code = io.StringIO(), io.StringIO(), 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as ended:
        code = int(ended.code or 0)
    finally:
        sys.argv = before
    return Said(code, out.getvalue(), err.getvalue())


def require_refusal(said: Said) -> str:
    """Three lines and exit code 2; return them."""
    lines = said.err.rstrip("\n").split("\n")
    assert said.code == 2, said.out + said.err
    told = next((number for number, line in enumerate(lines) if line.startswith("error: ")), len(lines))
    assert [line.split(":")[0].strip() for line in lines[told:]] == ["error", "where", "fix"], said.err
    return "\n".join(lines[told:])
