"""A process is known by its number, its start and the boot: a number alone is given out again."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from flows.environment.processes import Process, forget_process, note_process, noted_process, process_of


def test_a_process_is_at_its_run_while_it_lives(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        note_process(tmp_path, "run", process.pid)
        assert process_of(tmp_path, "run") == Process.of(process.pid)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert process_of(tmp_path, "run") is None, "ended, and not yet buried"
        assert noted_process(tmp_path, "run") is not None
    forget_process(tmp_path, "run")
    assert noted_process(tmp_path, "run") is None


@pytest.mark.parametrize("changes", [{"started": 1}, {"boot": "another"}])
def test_another_process_of_its_number_is_not_it(tmp_path: Path, changes: dict[str, object]) -> None:
    note_process(tmp_path, "run")
    own = process_of(tmp_path, "run")
    assert own is not None
    (tmp_path / "running" / "run.json").write_text(json.dumps(asdict(replace(own, **changes))))  # type: ignore[arg-type]
    assert process_of(tmp_path, "run") is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"pid": 1}'])
def test_a_damaged_note_is_none(tmp_path: Path, text: str) -> None:
    note_process(tmp_path, "run")
    (tmp_path / "running" / "run.json").write_text(text)
    assert noted_process(tmp_path, "run") is None
