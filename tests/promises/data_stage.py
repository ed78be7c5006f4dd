"""The data stage in a process of its own: `python data_stage.py SPEC STATE CORES` prints what it read and its peak memory."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.command_line import environment


def run_data_stage(spec: Path, state: Path, cores: int = 1, tokenise: bool = False) -> dict[str, Any]:
    """`{"ledger": ..., "peak_bytes": ...}`; the peak is of this process: with one core there is no other."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.promises.data_stage",
            str(spec),
            str(state),
            str(cores),
            str(int(tokenise)),
        ],
        cwd=spec.parent,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def main(spec_file: str, state: str, cores: str, tokenise: str) -> None:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(cores)])
    from data_contracts.contract import list_contracts
    from schemas.reading.load import load_spec
    from tasks.data.prepare import prepare, tokenize
    from tasks.training.models.weights import find_model

    spec = load_spec(Path(spec_file), (), list_contracts())
    prepared = prepare(Path(state), spec)
    if int(tokenise):
        assert isinstance(spec.base, str)
        tokenize(Path(state), spec, prepared, find_model(spec.base))
    # not getrusage: across exec it keeps the peak of the process that started this one
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])  # type: ignore[index]
    print(json.dumps({"ledger": prepared.ledger.model_dump(mode="json"), "peak_bytes": peak * 1024}))


if __name__ == "__main__":
    main(*sys.argv[1:])
