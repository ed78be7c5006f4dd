"""Killed between any two lines of the release step: champion, watermark and decision say the same.

A child releases a run and is killed with SIGKILL before the n-th line of the release's own code, for every n there is. Then
either nothing has happened, or the next reader finishes what was begun. "The same" means: the champion's increment is in
the watermark, the watermark holds no promoted increment whose run never was champion, and each is the run that its
decision names; and releasing again ends where an undisturbed release ends.
"""

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from schemas.results.watermark import IncrementRecord
from schemas.spec.increments import past_suite
from tasks.release.increments import watermark
from tasks.release.increments.watermark import DRAFT, load_watermark
from tasks.release.promotion import intent, promotion
from tasks.release.registry import versions as registry
from tasks.release.registry.soundness import find_damage
from tasks.storage import atomic
from tasks.storage.hashing import sha256_file
from tasks.training.models.judged import weights_sha256
from tests.release.conftest import MakeRun

ORDER = {module.__file__ for module in (promotion, intent)}
"""Where it is written in which order things are moved."""
EVERYTHING = ORDER | {module.__file__ for module in (watermark, registry, atomic)}
Release = Callable[[Path], Any]


def draft(run: Path, number: int, parent: str | None, verdict: str) -> None:
    own = past_suite(number)
    record = IncrementRecord(
        number=number, run=run.name, parent=parent, verdict=verdict, files={f"new/{number}.txt": str(number) * 64},
        rows="e" * 64, num_rows=3, seed=17, holdout=0.2, unit="nats per token",
        scores={own: 1.0}, before={own: 2.0}, base={own: 3.0}, suites={own: "rows"},
    )  # fmt: skip
    (run / DRAFT).write_text(record.model_dump_json())
    (run / "report.html").write_text("all that a run leaves before its release")


@pytest.fixture
def released_one(state: Path, make_run: MakeRun) -> Path:
    """A state whose first increment is champion."""
    run = make_run("one")
    draft(run, 1, None, "promote")
    promotion.promote(state, run)
    return state


def die_before_line(number: int, traced: set[str | None]) -> Callable[[FrameType, str, Any], Any]:
    """A trace function that kills this process before the n-th line of the release's code."""
    seen = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal seen
        if frame.f_code.co_filename not in traced:
            return None
        if event == "line":
            seen += 1
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    return trace


def released_in_a_child(state: Path, number: int, release: Release, traced: set[str | None]) -> bool:
    """Whether the release came to its end before line `number`."""
    child = os.fork()
    if child == 0:
        sys.settrace(die_before_line(number, traced))
        release(state)
        sys.settrace(None)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return False
    assert os.waitstatus_to_exitcode(status) == 0, "the child failed instead of being killed"
    return True


def end_of(state: Path) -> dict[str, Any]:
    """All that a release decides: aliases, versions, watermark, and which runs are finished."""
    return {
        "aliases": registry._aliases(registry._client(state), "medical"),
        "versions": [(e.version, e.run_id, e.verdict, e.forced) for e in registry.history(state, "medical")],
        "watermark": load_watermark(state, "medical"),
        "finished": sorted(file.parent.name for file in state.glob("runs/*/complete.json")),
        "intent": intent.read_intent(state, "medical"),
    }


def require_consistent(state: Path, terminal: bool, promotes: bool) -> None:
    """As a reader finds it: whoever reads settles first."""
    promotion.settle(state, "medical")
    champion = registry.champion(state, "medical")
    runs = [record.run for record in load_watermark(state, "medical").records]
    assert champion is not None
    assert champion.run_id in runs
    assert champion.weights_sha256 == weights_sha256(champion.model_folder)
    if promotes:
        assert (champion.run_id == "two") == ("two" in runs), "champion and watermark moved together"
    else:
        assert champion.run_id == "one"
    for entry in registry.history(state, "medical"):
        decision = sha256_file(state / "runs" / entry.run_id / "decision.json")
        tags = registry._client(state).get_model_version("medical", str(entry.version)).tags
        assert tags["decision_sha256"] == decision
    assert ("two" in runs) == (state / "runs/two/complete.json").is_file() or not terminal


def promote(state: Path) -> Any:
    return promotion.promote(state, state / "runs" / "two")


def refuse(state: Path) -> Any:
    return promotion.refuse(state, state / "runs" / "two")


def force(state: Path) -> Any:
    return promotion.promote(state, state / "runs" / "two", "the suite is wrong")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("outcome", "release", "promotes", "terminal", "stride"),
    [
        ("pass", promote, True, True, 5),
        ("fail", refuse, False, True, 7),
        ("undecided", refuse, False, False, 7),
        ("fail", force, True, True, 11),
    ],
    ids=["promote", "reject", "inconclusive", "force"],
)  # fmt: skip
def test_killed_between_any_two_lines_of_the_release_all_stays_consistent(
    released_one: Path, make_run: MakeRun, tmp_path: Path,
    outcome: str, release: Release, promotes: bool, terminal: bool, stride: int,
) -> None:  # fmt: skip
    """At every `stride`th line; with ROOTSTOCK_EVERY_LINE=1 in the environment at each one (half an hour)."""
    run = make_run("two", outcome)
    draft(run, 2, "one", {"pass": "promote", "fail": "reject", "undecided": "inconclusive"}[outcome])
    undisturbed = Path(shutil.copytree(released_one, tmp_path / "undisturbed"))
    before = end_of(undisturbed)
    release(undisturbed)
    wanted = end_of(undisturbed)
    assert (wanted["watermark"] != before["watermark"]) == terminal
    untouched = contents(released_one)
    happened = []
    for number in range(1, 4000, 1 if os.environ.get("ROOTSTOCK_EVERY_LINE") else stride):
        state = Path(shutil.copytree(released_one, tmp_path / f"killed-{number}"))
        if released_in_a_child(state, number, release, EVERYTHING):
            break
        if contents(state) == untouched:  # killed before anything was written
            happened.append(False)
        else:
            require_consistent(state, terminal, promotes)
            end = end_of(state)
            assert end in (before, wanted)
            happened.append(end == wanted)
        if len(happened) % 10 == 0 and release is not force:
            release(state)  # the same command again
            assert end_of(state) == wanted
        shutil.rmtree(state)
    assert len(happened) > 8
    assert 0 < sum(happened) < len(happened)
    assert happened == sorted(happened), "once it is certain that the release happens, it stays so"


def contents(state: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(state)): file.read_bytes()
        for file in state.rglob("*")
        if file.is_file() and not file.name.endswith(".tmp") and file.parent.name != "locks"
    }


@pytest.mark.slow
def test_a_rollback_killed_between_any_two_lines_is_finished_and_never_taken_for_damage(
    released_one: Path, make_run: MakeRun, tmp_path: Path
) -> None:
    draft(make_run("two"), 2, "one", "promote")
    promote(released_one)
    traced = {promotion.__file__, registry.__file__}
    begun = []
    for number in range(1, 500):
        state = Path(shutil.copytree(released_one, tmp_path / f"killed-{number}"))
        if released_in_a_child(state, number, lambda state: promotion.rollback(state, "medical"), traced):
            break
        champion = registry.champion(state, "medical")
        assert champion is not None
        aliases = registry._aliases(registry._client(state), "medical")
        begun.append("rolling-back" in aliases)
        if number % 2:
            promotion.settle(state, "medical")
            assert find_damage(state) is None
            ended = registry.champion(state, "medical")
            assert ended is not None
            assert ended.run_id == ("one" if begun[-1] else champion.run_id)
        elif champion.run_id == "two" or begun[-1]:
            assert promotion.rollback(state, "medical").run_id == "one"
        assert "rolling-back" not in registry._aliases(registry._client(state), "medical") or not begun[-1]
        shutil.rmtree(state)
    assert 2 < sum(begun) < len(begun)
