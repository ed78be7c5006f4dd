"""A run that writes its own replay, holds weights (ewc) and chooses its ratio, killed again and again at random instants.

    python -m tests.promises.random_kills [KILLS] [SEED]

It must end with the weights, scores and decision of the undisturbed run, bit by bit.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tasks.storage.hashing import sha256_file
from tests.command_line import ROOT, environment
from tests.corpora import make_spec, source, write_rows
from tests.tiny_base import prose

LONGEST_SECONDS = 8.0
"""Of work in one attempt, from its first sign of life in the state folder to the kill; more where two attempts in a row
ended in the same place, as on a slow machine, or nothing later would ever be hit."""


def make_place(folder: Path) -> Path:
    """Texts and a specification; every path in it is relative, so that two places give the same bytes."""
    write_rows(folder / "domain.jsonl", [line[:150] for line in prose("en_*")])
    write_rows(folder / "general.jsonl", [line[i : i + 60] for line in prose("zh_*") for i in (0, 60, 120)])
    proxies = {"ratios": [0, 0.2, 0.4, 0.5], "further_ratios": [], "lengths": [0.5, 1.0]}
    spec = make_spec(
        base=str(ROOT / "assets" / "base"),
        domain=[source("domain.jsonl")],
        evaluation={"domain_holdout": 0.2, "general": [source("general.jsonl")], "max_tokens": 2000},
        mixture={"forgetting_budget": 5.0, "proxies": proxies},
        training={"steps": 10, "learning_rate": 3e-3, "checkpoint_every": 3},
        promotion={"max_forgetting": 9.0, "min_gain": 0.0},
        remedies=[
            {"kind": "self_replay", "tokens": 3000, "max_new_tokens": 30, "min_tokens": 8},
            {"kind": "ewc", "general_tokens": 300},
        ],
    )
    (folder / "spec.json").write_text(spec.model_dump_json(exclude_unset=True))
    return folder


def start(place: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "flows.cli.main", "run", "spec.json", "--no-prefect"], cwd=place, env=environment(),
        stdout=subprocess.DEVNULL, stderr=(place / "err.txt").open("ab"), start_new_session=True,
    )  # fmt: skip


def touched(state: Path, since: float) -> bool:
    """Whether this attempt has written anything."""
    for path in [*state.glob("runs/*"), *state.glob("data/*"), *state.glob("data/.*")]:
        try:
            if path.stat().st_mtime >= since:
                return True
        except FileNotFoundError:  # renamed meanwhile
            return True
    return False


def kill_once(place: Path, generator: random.Random, longest: float) -> str | None:
    """Kill one attempt; what was going on, or None if it had come to its end."""
    state, since = place / ".rootstock", time.time()
    process = start(place)
    while process.poll() is None and not touched(state, since):
        time.sleep(0.005)
    until = time.time() + generator.uniform(0, longest)
    while process.poll() is None and time.time() < until:
        time.sleep(0.005)
    if process.poll() is not None:
        assert process.returncode in (0, 10, 11), (place / "err.txt").read_text()
        return None
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    begun = [path.name.lstrip(".").rsplit("-", 1)[0] for path in state.glob("data/.*.tmp")]
    trained = len(list(state.glob("data/train-*")))
    return f"{' in '.join(sorted(begun)) or 'between steps'} ({trained} trainings done)"


def finish(place: Path) -> dict[str, Any]:
    """Run to the end; sha256 of what it left."""
    process = start(place)
    assert process.wait() in (0, 10, 11), (place / "err.txt").read_text()
    [run] = (place / ".rootstock" / "runs").iterdir()
    files = [
        *sorted((run / "model").glob("*.safetensors")),
        *(run / f"{n}.json" for n in ("scores", "decision")),
    ]
    files += [run / "replay_choice.json", run / "ledger.json"]
    steps = sorted(path.name for path in (place / ".rootstock" / "data").iterdir())
    return {"run": run.name, "steps": steps, **{file.name: sha256_file(file) for file in files}}


def compare(folder: Path, kills: int, seed: int) -> list[str]:
    """Where the kills landed; the ends of both runs are equal, or this fails."""
    places = [make_place(folder / name) for name in ("undisturbed", "killed")]
    wanted = finish(places[0])
    generator = random.Random(seed)
    landed: list[str] = []
    longest = LONGEST_SECONDS
    for _ in range(3 * kills):
        if len(landed) == kills:
            break
        where = kill_once(places[1], generator, longest)
        longest = longest * 1.5 if landed and where == landed[-1] else LONGEST_SECONDS
        if where is None:  # it came to its end: from the start again
            assert finish(places[1]) == wanted
            shutil.rmtree(places[1] / ".rootstock")
        else:
            landed.append(where)
    assert finish(places[1]) == wanted
    return landed


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    chosen = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    with tempfile.TemporaryDirectory() as scratch:
        print(json.dumps(compare(Path(scratch), count, chosen), indent=1))
        print("all ends are equal, bit by bit")
