"""Promises 4 and 5: killed at any instant, a run goes on to the very same weights; a visible checkpoint is complete."""

import glob
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from schemas.results.artifacts import Ledger
from tasks.release.registry import versions as registry
from tasks.storage.hashing import sha256_file
from tasks.training.loop.checkpoints import list_checkpoints, verify
from tests.command_line import environment, rootstock
from tests.promises.conftest import Project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

MARK = "ROOTSTOCK_TEST_KILL"
State = Path
Sign = Callable[[State, float], bool]
"""Whether something is seen in the state folder that this attempt (begun at that time) has done."""

STEPS = ("validate", "gate", "divide", "tokenize", "plan", "score", "train")


def seen(state: State, pattern: str) -> list[Path]:
    """What matches now; unlike Path.glob, glob.glob bears folders that vanish meanwhile."""
    return [state / path for path in glob.glob(pattern, root_dir=state)]  # noqa: PTH207


def fresh(state: State, patterns: list[str], since: float) -> bool:
    for pattern in patterns:
        for path in seen(state, pattern):
            try:
                if path.stat().st_mtime >= since:
                    return True
            except FileNotFoundError:  # renamed meanwhile
                return True
    return False


def begun(step: str) -> Sign:
    """This step or a later one is under way, or was done in this attempt."""
    names = STEPS[STEPS.index(step) :]
    patterns = [pattern for name in names for pattern in (f"data/.{name}-*.tmp", f"data/{name}-*")]
    return lambda state, since: fresh(state, patterns, since)


def trained(steps: int) -> Sign:
    def sign(state: State, since: float) -> bool:
        try:
            files = [
                file
                for file in seen(state, "data/.train-*.work/metrics.jsonl")
                if file.stat().st_mtime >= since
            ]
            enough = any(file.read_bytes().count(b"\n") >= steps for file in files)
        except FileNotFoundError:  # training has just ended
            enough = True
        return enough or in_run(".model.tmp")(state, since)

    return sign


def writing_checkpoint(state: State, since: float) -> bool:
    return fresh(state, ["data/.train-*.work/checkpoints/.writing/*"], since) or in_run(".model.tmp")(
        state, since
    )


def in_run(name: str) -> Sign:
    return lambda state, since: fresh(state, [f"runs/*/{name}"], since)


def at_once(state: State, since: float) -> bool:
    return True


# (what is under way, how to see it, seconds at most between seeing it and the kill)
INSTANTS: list[tuple[str, Sign, float]] = [
    ("starting", at_once, 2.0),
    ("reading", begun("validate"), 0.05),
    ("reading", begun("validate"), 3.0),
    ("gating", begun("gate"), 0.5),
    ("gating", begun("gate"), 5.0),
    ("dividing", begun("divide"), 0.02),
    ("tokenising", begun("tokenize"), 0.05),
    ("tokenising", begun("tokenize"), 2.0),
    ("planning", begun("plan"), 0.02),
    ("scoring the base", begun("score"), 0.5),
    ("training", trained(2), 0.1),
    ("writing a checkpoint", writing_checkpoint, 0.0),
    ("writing a checkpoint", writing_checkpoint, 0.01),
    ("training, epoch 2", trained(30), 0.3),
    ("writing a checkpoint, epoch 2", writing_checkpoint, 0.03),
    ("training, epoch 3", trained(50), 0.3),
    ("scoring the candidate", in_run(".model.tmp"), 0.0),
    ("deciding", in_run("decision.json"), 0.02),
    ("promoting", in_run("decision.json"), 1.0),
    ("promoting", in_run("report.html"), 2.0),
]


def alive(mark: str) -> list[int]:
    """Processes whose environment holds the mark."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def start(project: Project, state: State, mark: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "flows.cli.main", "run", "spec.yaml", "--no-prefect", "--state", str(state)],
        cwd=project.folder,
        env=environment(**{MARK: mark}),
        stdout=subprocess.DEVNULL,
        stderr=(project.folder / "err.txt").open("wb"),
        start_new_session=True,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.default_int_handler
        ),  # a background shell ignores it
    )


def kill_at(project: Project, state: State, sign: Sign, delay: float, whole_group: bool, mark: str) -> bool:
    """Run until the sign is seen and `delay` has passed, then kill -9; tell whether there was something to kill."""
    since = time.time()
    process = start(project, state, mark)
    while process.poll() is None and not sign(state, since):
        time.sleep(0.003)
    time.sleep(delay)
    running = process.poll() is None
    if running and whole_group:
        os.killpg(process.pid, signal.SIGKILL)
    elif running:
        process.kill()
    process.wait()
    if not running:
        assert process.returncode == 0, (project.folder / "err.txt").read_text()
    deadline = time.monotonic() + 10
    while alive(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert alive(mark) == [], "worker processes outlive their parent"
    return running


def weights(state: State) -> dict[str, str]:
    [model] = state.glob("runs/*/model")
    return {file.name: sha256_file(file) for file in model.glob("*.safetensors")}


@pytest.fixture(scope="module")
def undisturbed(sharded: Project) -> State:
    state = sharded.folder / "undisturbed"
    done = rootstock("run", "spec.yaml", "--no-prefect", "--state", str(state), cwd=sharded.folder)
    assert done.code == 0, done.err
    return state


def require_same_end(project: Project, state: State, undisturbed: State) -> None:
    done = rootstock("run", "spec.yaml", "--no-prefect", "--state", str(state), cwd=project.folder)
    assert done.code == 0, done.err
    assert weights(state) == weights(undisturbed)
    [run] = state.glob("runs/*")
    [other] = undisturbed.glob("runs/*")
    assert run.name == other.name
    for name in ("decision.json", "scores.json", "ledger.json", "spec.yaml"):
        assert (run / name).read_bytes() == (other / name).read_bytes(), name
    assert [(h.version, h.run_id, h.aliases) for h in registry.history(state, "tiny")] == [
        (1, run.name, ("champion",))
    ]
    Ledger.model_validate_json((run / "ledger.json").read_bytes()).require_balance()
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))
    assert [path.name for path in state.glob("data/.*")] == []
    assert {path.name for path in state.glob("data/*")} == {path.name for path in undisturbed.glob("data/*")}


def test_a_run_killed_in_every_phase_ends_as_the_undisturbed_one(
    sharded: Project, undisturbed: State
) -> None:
    state = sharded.folder / "killed in every phase"
    seed = random.SystemRandom().randrange(2**32)  # other moments every time
    print("seed", seed)
    generator = random.Random(seed)
    landed = []
    for number, (phase, sign, most) in enumerate(INSTANTS):
        delay = generator.uniform(0, most)
        if kill_at(sharded, state, sign, delay, bool(number % 3), f"{os.getpid()}-{number}"):
            landed.append(phase)
        for folder in state.glob("data/.train-*.work/checkpoints"):
            assert all(verify(checkpoint) for checkpoint in list_checkpoints(folder)), phase
    print(landed)
    assert len(landed) >= 15, landed  # 20 where nothing else runs; on a busy machine some come too late
    assert {
        "reading",
        "gating",
        "tokenising",
        "training, epoch 2",
        "writing a checkpoint",
        "promoting",
    } <= set(landed)
    require_same_end(sharded, state, undisturbed)


def test_interrupted_by_the_user_it_says_how_to_go_on(sharded: Project) -> None:
    state = sharded.folder / "interrupted"
    process = start(sharded, state, "interrupted")
    while process.poll() is None and not begun("gate")(state, 0):
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) == 130
    told = (sharded.folder / "err.txt").read_text()
    assert told.splitlines()[-1] == "stopped by Ctrl-C; the same command goes on where it was"
    assert "Traceback" not in told


def test_asked_to_end_while_training_it_writes_a_checkpoint_and_exits_143(
    sharded: Project, undisturbed: State
) -> None:
    state = sharded.folder / "terminated"
    process = start(sharded, state, "terminated")
    while process.poll() is None and not trained(7)(state, 0):
        time.sleep(0.003)
    process.terminate()
    assert process.wait(120) == 143, (sharded.folder / "err.txt").read_text()
    assert "asked to stop; a checkpoint was written" in (sharded.folder / "err.txt").read_text()
    require_same_end(sharded, state, undisturbed)


@pytest.fixture(autouse=True)
def _nothing_is_left_running() -> Iterator[None]:
    yield
    for process in alive(""):
        os.kill(process, signal.SIGKILL)
