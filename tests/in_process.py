"""The real command line inside this process: for the many invocations that need no process of their own."""

import contextlib
import io
import os
import sys
from pathlib import Path
from unittest import mock

from flows.cli import main
from tests.command_line import Done


def rootstock_here(*arguments: str, cwd: Path) -> Done:
    """Run `rootstock ARGUMENTS` in `cwd`."""
    out, err, before, code = io.StringIO(), io.StringIO(), Path.cwd(), 0
    os.chdir(cwd)
    try:
        with (
            mock.patch.object(sys, "argv", ["rootstock", *arguments]),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            main()
    except SystemExit as done:
        code = int(done.code or 0)
    finally:
        os.chdir(before)
    return Done(code, out.getvalue(), err.getvalue(), frozenset())
