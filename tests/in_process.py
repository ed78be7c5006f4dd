"""The real command line in the process of the tests: many commands share one import of the libraries."""

import contextlib
import io
import os
import sys
from pathlib import Path
from unittest import mock

from tests.command_line import Done

Said = Done


def rootstock_here(*arguments: str, cwd: Path | None = None) -> Done:
    """Run `rootstock ARGUMENTS` (in `cwd`); its exit code is what the process's would be."""
    from flows.cli.main import main

    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.object(sys, "argv", ["rootstock", *arguments]),
        mock.patch.dict(os.environ, {"COLUMNS": "200"}),
        contextlib.chdir(cwd or Path.cwd()),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as done:
            code = int(done.code or 0)
    return Done(code, out.getvalue(), err.getvalue(), frozenset())


def require_refusal(said: Done) -> str:
    """Three lines and exit code 2; return them."""
    lines = said.err.rstrip("\n").split("\n")
    assert said.code == 2, said.out + said.err
    told = next((number for number, line in enumerate(lines) if line.startswith("error: ")), len(lines))
    assert [line.split(":")[0].strip() for line in lines[told:]] == ["error", "where", "fix"], said.err
    return "\n".join(lines[told:])
