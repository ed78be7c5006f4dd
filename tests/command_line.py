"""Run the real command line in a process of its own, and learn which modules it imported."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.warm import run_warm

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "transformers", "peft", "prefect", "great_expectations", "pandas", "mlflow", "pyarrow")
LOADS = (
    "run",
    "plan",
    "check",
    "evaluate",
    "generate",
    "export",
    "combine",
    "promote",
    "rollback",
    "history",
    "trace",
)
"""Commands that load most of HEAVY."""

_PROGRAM = """
import sys
import flows.cli.main
try:
    flows.cli.main.main()
finally:
    with open({loaded!r}, "w") as out:
        out.write("\\n".join(sys.modules))
"""


@dataclass(frozen=True)
class Done:
    """A finished command."""

    code: int
    out: str
    err: str
    imported: frozenset[str] | None = None

    @property
    def heavy(self) -> frozenset[str]:
        """Which of HEAVY were imported by a cold command."""
        assert self.imported is not None, "ask for it with cold=True"
        return self.imported

    @property
    def errors(self) -> list[tuple[str, str, str]]:
        """(what, where, fix) of every error printed; the lines must be nothing else."""
        lines = self.err.rstrip("\n").split("\n")
        found = []
        for what, where, fix in zip(lines[0::3], lines[1::3], lines[2::3], strict=True):
            assert what.startswith("error: "), self.err
            assert where.startswith("  where: "), self.err
            assert fix.startswith("  fix: "), self.err
            found.append((what[7:], where[9:], fix[7:]))
        return found

    def json(self) -> Any:
        """Standard output, which must be one JSON value and nothing else."""
        return json.loads(self.out)


def environment(**changes: str) -> dict[str, str]:
    """The environment of a command: this project on the path, no Hub, nothing of the caller's shell settings."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ROOTSTOCK_SET", "PREFECT_"))
    }
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {
        **kept,
        "PYTHONPATH": path,
        "HF_HUB_OFFLINE": "1",
        "COLUMNS": "200",
        "OMP_NUM_THREADS": "1",
        **changes,
    }


def rootstock(
    *arguments: str, cwd: Path, env: Mapping[str, str] | None = None, timeout: float = 900, cold: bool = False
) -> Done:
    """Run `rootstock ARGUMENTS` in `cwd`: `cold` in an interpreter of its own, which tells what it imported."""
    if not (cold or env or arguments[0] not in LOADS):
        return Done(*run_warm(arguments, ROOT, cwd, environment(), timeout))
    loaded = cwd / f".loaded-{os.getpid()}"
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(loaded=str(loaded)), *arguments],
        cwd=cwd,
        env=environment(**(env or {})),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    modules = set(loaded.read_text().split("\n"))
    loaded.unlink()
    return Done(done.returncode, done.stdout, done.stderr, frozenset(HEAVY) & modules)
