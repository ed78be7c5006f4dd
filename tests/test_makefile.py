"""`make` on a machine that lacks something: one line that says what is needed, nothing half-made."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OLD = """#!/bin/sh
case "$*" in
  -V) echo "Python 3.10.12" ;;
  *version_info*) exit 1 ;;
  *) echo "old python called: $*" >&2; exit 9 ;;
esac
"""
BARE = """#!/bin/sh
case "$*" in
  -V) echo "Python 3.12.3" ;;
  *version_info*) exit 0 ;;
  *ensurepip*) echo "ModuleNotFoundError: No module named 'ensurepip'" >&2; exit 1 ;;
  *) echo "python called: $*" >&2; exit 9 ;;
esac
"""


@pytest.mark.parametrize(
    ("python", "told"),
    [
        (OLD, "Python 3.11 or newer is needed, python3 is Python 3.10.12: name one: make PYTHON=python3.11"),
        (BARE, "python3 comes without venv or ensurepip: install them"),
        (None, "nosuch3 is not there: install Python 3.11 or newer"),
    ],
)
@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")
def test_make_says_in_one_line_what_it_needs(tmp_path: Path, python: str | None, told: str) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    fake = tmp_path / "bin" / "python3"
    fake.parent.mkdir()
    fake.write_text(python or OLD)
    fake.chmod(0o755)
    done = subprocess.run(
        ["make", "run", *(["PYTHON=nosuch3"] if python is None else [])],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={"PATH": f"{fake.parent}{os.pathsep}{os.environ['PATH']}", "LC_ALL": "C"},
    )  # fmt: skip
    assert done.returncode == 2
    first, *rest = done.stderr.splitlines()
    assert first.startswith(told)
    assert all(line.startswith("make: ***") for line in rest)
    assert not (tmp_path / ".venv").exists()
