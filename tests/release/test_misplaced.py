"""A run's folder is of the run it is called by: copies and folders that changed places are named, and the printed command mends it."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.cli.models import find_run_model
from flows.models.export import export_run
from schemas.errors import ExitCode, UserError
from schemas.results.watermark import IncrementRecord, Watermark
from schemas.spec.run import RunSpec
from tasks.release.increments.watermark import load_watermark, save_watermark, watermark_file
from tasks.release.promotion import intent
from tasks.release.promotion.promotion import promote, promote_by_hand, rollback, settle
from tasks.release.record.run_record import DRAFT, close_run
from tasks.release.registry import versions as registry
from tasks.release.run.run_folder import RunFolder
from tasks.storage.hashing import sha256_file
from tests.release.conftest import MakeRun
from tests.release.made_up import spec as made_up_spec
from tests.release.test_release_kill import draft


@pytest.fixture
def two(state: Path, make_run: MakeRun) -> Path:
    """Two finished increments; the second is champion."""
    for number, name in enumerate(("one", "two"), 1):
        run = make_run(name)
        draft(run, number, None if number == 1 else "one", "promote")
        close_run(run, sha256_file(run / "decision.json"), "medical", None, written=True)
        promote(state, run)
    return state


def swap(state: Path) -> str:
    runs = state / "runs"
    (runs / "one").rename(runs / "kept")
    (runs / "two").rename(runs / "one")
    (runs / "kept").rename(runs / "two")
    return "two"


def copy(state: Path) -> str:
    shutil.copytree(state / "runs/two", state / "runs/two-backup")
    return "two-backup"


def rename(state: Path) -> str:
    (state / "runs/two").rename(state / "runs/two-old")
    return "two-old"


def copy_over_a_damaged_one(state: Path) -> str:
    named = copy(state)
    (state / "runs/two/scores.json").write_text("{}")
    return named


def link(state: Path) -> str:
    (state / "runs/two-link").symlink_to("two")
    return "two-link"


def start(state: Path, run: str) -> None:
    RunFolder(state, RunSpec.model_validate(made_up_spec()), run, {}).start()


USES: dict[str, Callable[[Path, str], object]] = {
    "promote": lambda state, run: promote_by_hand(state, state / "runs" / run),
    "generate, evaluate and export": lambda state, run: find_run_model(state, run),
    "a path to its model": lambda state, run: export_run(state / "runs" / run / "model", state / "out", False, state),
    "run": start,
}  # fmt: skip


@pytest.mark.parametrize("misplace", [swap, copy, rename, copy_over_a_damaged_one, link])
def test_a_folder_of_another_run_is_refused_by_every_use_and_mended_by_the_command(
    two: Path, misplace: Callable[[Path], str]
) -> None:
    named = misplace(two)
    fixes = set()
    for use, ask in USES.items():
        with pytest.raises(UserError) as caught:
            ask(two, named)
        assert "record" in caught.value.what, use
        assert caught.value.where == str(two / "runs" / named / "complete.json"), use
        assert caught.value.exit_code == ExitCode.BAD_SPECIFICATION
        if use != "a path to its model":
            fixes.add(caught.value.fix)
    (fix,) = fixes
    subprocess.run(fix.partition("run: ")[2], shell=True, check=True)
    for run in ("one", "two"):
        assert find_run_model(two, run) == str(two / "runs" / run / "model")
    assert promote_by_hand(two, two / "runs/two").version == 2
    assert {entry.run_id for entry in registry.history(two, "medical")} == {"one", "two"}


@pytest.mark.parametrize("gone", ["of another run", "of another name", "without its run"])
def test_what_a_stopped_release_cannot_do_any_more_is_given_up_by_the_printed_command(
    two: Path, gone: str
) -> None:
    """Such as an earlier version left of a copy: every later command of the name stopped at it."""
    known = registry.champion(two, "medical")
    assert known is not None
    left = intent.Intent(
        name="medical", run="three", alias="champion", weights=known.weights_sha256,
        decision=sha256_file(two / "runs/two/decision.json"), verdict="promote",
    )  # fmt: skip
    if gone == "of another run":
        record = promote_record(two)
        left = left.model_copy(update={"record": record})
    intent.write_intent(two, left)
    file = intent.intent_file(two, "medical")
    name = "medical"
    if gone == "of another name":
        name = "law"
        file = shutil.copy(file, intent.intent_file(two, name))
    for ask in (lambda: settle(two, name), lambda: rollback(two, name)):
        with pytest.raises(UserError, match="what a stopped release of") as caught:
            ask()
        assert caught.value.exit_code == ExitCode.BAD_SPECIFICATION
        assert caught.value.where == str(file)
    subprocess.run(caught.value.fix.partition("run: ")[2].partition(", then")[0], shell=True, check=True)
    settle(two, name)
    if name == "medical":
        assert rollback(two, name).run_id == "one"


def promote_record(state: Path) -> IncrementRecord:
    return IncrementRecord.model_validate_json((state / "runs/two" / DRAFT).read_bytes())


def test_the_watermark_of_another_name_is_damage_and_is_written_anew_from_the_runs(
    two: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = load_watermark(two, "medical")
    others = [record.model_copy(update={"run": "law-0123456789"}) for record in before.records]
    for left in (
        Watermark(name="law", records=tuple(others)),
        Watermark(name="medical", records=tuple(others)),
    ):
        save_watermark(two, left)
        watermark_file(two, left.name).replace(watermark_file(two, "medical"))
        settle(two, "medical")
        assert "it is the list of another name, 'law'" in capsys.readouterr().err
        assert load_watermark(two, "medical") == before
    shutil.copy(watermark_file(two, "medical"), watermark_file(two, "law"))
    with pytest.raises(UserError, match="another name, 'medical'") as caught:
        settle(two, "law")
    subprocess.run(caught.value.fix.partition("run: ")[2].partition(" (")[0], shell=True, check=True)
    assert load_watermark(two, "law").records == ()
