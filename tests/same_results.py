"""Hashes of what one specification of each objective leaves: weights, scores, ledger and plan, before and after a change.

    python -m tests.same_results > before.json       # on the old code
    python -m tests.same_results before.json         # on the new code: ends with 1 and names what differs

Both must run in one environment: other versions of torch, or other processors, round differently.
"""

import json
import shutil
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from tasks.storage.hashing import sha256_file
from tests.all_pairs import VERDICTS, specifications
from tests.in_process import rootstock_here

FOLDER = Path(tempfile.gettempdir()) / "rootstock-same-results"
"""Always the same one: rows name their files."""
ENCODER = FOLDER.with_name("rootstock-same-encoder")
STORED = ("ledger.json", "scores.json", "decision.json", "model/*.safetensors", "model/*.json")
PLANNED = ("plan-*/*", "divide-*/*", "encode-*/*", "labels-*/*")
"""Of the steps in `data`: only files that hold no time."""


def results() -> dict[str, str]:
    """Specification and file -> sha256."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    found = {}
    specs = specifications(FOLDER)
    # a tokenizer is not trained to the same bytes twice: the encoder of the first run is kept for the next
    shutil.copytree(
        *((ENCODER, FOLDER / "encoder") if ENCODER.exists() else (FOLDER / "encoder", ENCODER)),
        dirs_exist_ok=True,
    )
    for name, values in specs.items():
        file = FOLDER / f"{name}.json"
        file.write_text(json.dumps(values))
        done = rootstock_here("run", file.name, "--no-prefect", "--json", "--state", name, cwd=FOLDER)
        assert done.code in VERDICTS, done.err
        run = FOLDER / json.loads(done.out)["folder"]
        kept = [path for pattern in STORED for path in sorted(run.glob(pattern))]
        steps = [path for pattern in PLANNED for path in sorted((FOLDER / name / "data").glob(pattern))]
        for path in kept:
            found[f"{name} {path.relative_to(run)}"] = sha256_file(path)
        hashes = defaultdict(list)
        for path in steps:
            if path.name != "manifest.json":
                hashes[f"{path.parent.name.rpartition('-')[0]} {path.name}"].append(sha256_file(path))
        found |= {f"{name} {step}": " ".join(sorted(several)) for step, several in hashes.items()}
    return found


def main(before: str | None = None) -> int:
    """Print the hashes, or what differs from those of `before`."""
    now = results()
    if before is None:
        print(json.dumps(now, indent=1))
        return 0
    then = json.loads(Path(before).read_text())
    different = sorted(key for key in then.keys() | now.keys() if then.get(key) != now.get(key))
    for key in different:
        print(f"{key}: {then.get(key, 'not there')} -> {now.get(key, 'not there')}")
    print(f"{len(now) - len(different)} of {len(now)} files are equal")
    return min(len(different), 1)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
