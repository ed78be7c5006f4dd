"""Promise 7: memory does not grow with the number of rows, in any stage that handles rows."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command_line import ROOT, environment
from tests.corpora import make_spec, source

pytestmark = pytest.mark.slow
WORDS = [f"word{number}" for number in range(500)]


def peaks_of(folder: Path, rows: int) -> dict[str, int]:
    """Bytes at the peak of each stage, with so many rows of replay and in a suite, a fourth of it as domain."""
    folder.mkdir()
    generator = random.Random(rows)
    for name, count in (("domain", rows // 4), ("replay", rows), ("general", rows)):
        with (folder / f"{name}.jsonl").open("w") as out:
            for number in range(count):
                out.write(
                    json.dumps({"text": f"{name} {number} {' '.join(generator.choices(WORDS, k=12))}"}) + "\n"
                )
    spec = make_spec(
        base=str(ROOT / "assets" / "base"),
        domain=[source("domain.jsonl")],
        replay=[source("replay.jsonl")],
        mixture={"replay_ratio": 0.3, "importance": "towards_domain"},
        remedies=[{"kind": "weight_averaging", "development_tokens": 2000}],
        training={"steps": 20, "sequence_length": 64, "batch_tokens": 256},
        evaluation={"domain_holdout": 0.2, "general": [source("general.jsonl")], "max_tokens": 5000},
    )
    (folder / "spec.json").write_text(spec.model_dump_json(exclude_none=True))
    done = subprocess.run(
        [sys.executable, "-m", "tests.promises.memory", "spec.json", "state"],
        cwd=folder, env=environment(), capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_four_times_the_rows_take_no_more_memory_in_any_stage(tmp_path: Path) -> None:
    less, more = (peaks_of(tmp_path / str(rows), rows) for rows in (15_000, 60_000))
    grown = {stage: (more[stage] - less[stage]) // 2**20 for stage in less}
    print({stage: f"{peak // 2**20} MiB" for stage, peak in more.items()}, grown)
    assert less.keys() == {"check", "prepare", "tokenize", "suites"}
    assert all(growth < 30 for growth in grown.values()), grown  # MiB; a few numbers a row are kept
