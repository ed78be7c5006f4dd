"""What `rootstock clean` removes, and what it keeps."""

import fcntl
import json
import os
import shutil
import time
from pathlib import Path

import pytest

from schemas.errors import UserError
from tasks.release.promotion.promotion import promote, refuse
from tasks.release.record.run_record import close_run
from tasks.release.run.clean import clean
from tasks.storage import steps
from tasks.storage.steps import Step, StepPlan, run_step
from tests.release.conftest import MakeRun


def step(state: Path, name: str, **inputs: str) -> Step:
    def work(folder: Path) -> dict[str, str]:
        (folder / "rows").write_text(f"{name} {inputs}" * 50)
        return {}

    return run_step(StepPlan(state, name, inputs, None, "1"), work)


@pytest.fixture
def worked(state: Path, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """A champion and a rejected run; they share one step, all written a year ago, and one that is new."""
    monkeypatch.setattr(steps, "_used", {})
    shared = step(state, "validate", file="a" * 64)
    kept = step(state, "train", rows=step(state, "plan", rows=shared.key).key)
    lost = step(state, "train", rows=shared.key)
    for name, trained in (("one", kept), ("two", lost)):
        run = make_run(name, "pass" if name == "one" else "fail")
        (run / "lineage.json").write_text(json.dumps({"steps": {"train": trained.key}}))
    promote(state, state / "runs/one")
    refuse(state, state / "runs/two")
    (state / "data/.train-0.work").mkdir()
    old = time.time() - 365 * 24 * 3600
    for path in [*(state / "data").rglob("*"), *(state / "runs").rglob("*"), *(state / "runs").iterdir()]:
        os.utime(path, (old, old))
    step(state, "score", model=lost.key)
    for descriptor in steps._used.values():
        os.close(descriptor)  # the process that made them has ended
    steps._used.clear()
    return {"state": state, "kept": kept.folder, "lost": lost.folder}


def test_what_the_champion_and_recent_steps_rest_on_stays(worked: dict[str, Path]) -> None:
    state = worked["state"]
    before = set((state / "data").iterdir())
    assert [one.folder.name for one in clean(state, 14, really=True)] == [".train-0.work"]
    assert before - set((state / "data").iterdir()) == {state / "data/.train-0.work"}, (
        "a new score rests on `lost`"
    )
    told = clean(state, 0, really=False)
    assert {one.kind for one in told} == {"score", "train"}
    assert worked["lost"].is_dir(), "only said"
    assert clean(state, 0, really=True) == told
    assert worked["kept"].is_dir()
    assert not worked["lost"].exists()
    assert {folder.name.rpartition("-")[0] for folder in (state / "data").iterdir()} == {
        "validate",
        "plan",
        "train",
    }
    assert clean(state, 0, really=True) == []
    assert sorted(run.name for run in (state / "runs").iterdir()) == ["one", "two"]


def test_nothing_is_removed_while_another_process_uses_steps(worked: dict[str, Path]) -> None:
    state = worked["state"]
    user = os.open(state / "locks" / steps.IN_USE, os.O_RDWR)
    fcntl.flock(user, fcntl.LOCK_SH)
    with pytest.raises(UserError, match="a run is going on"):
        clean(state, 0, really=True)
    assert worked["lost"].is_dir()
    os.close(user)
    assert clean(state, 0, really=True)


@pytest.mark.parametrize("how", ["lineage.json", "folder", "pipe", "deep"])
def test_what_a_model_in_use_rests_on_must_be_told(worked: dict[str, Path], how: str) -> None:
    state = worked["state"]
    run, lineage = state / "runs/one", state / "runs/one/lineage.json"
    if how == "folder":
        shutil.rmtree(run)
    else:
        lineage.unlink()
    if how == "pipe":
        os.mkfifo(lineage)
    if how == "deep":  # a finished run knows what it left
        lineage.write_text(json.dumps({"steps": {"train": worked["kept"].name}}))
        close_run(run, "", "medical", None, written=True)
        lineage.write_text('{"a":' * 100_000)
    with pytest.raises(UserError, match="so nothing is removed") as caught:
        clean(state, 0, really=True)
    assert caught.value.where == str(lineage)
    assert worked["kept"].is_dir()


def test_links_are_left_and_said_and_a_damaged_step_stays(
    worked: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = worked["state"]
    moved = worked["lost"].rename(tmp_path / "elsewhere")
    worked["lost"].symlink_to(moved)
    (state / "data/foo-abc").symlink_to(tmp_path)
    for name, text in (("pipe-0", None), ("deep-0", '{"a":' * 100_000)):
        (state / "data" / name).mkdir()
        manifest = state / "data" / name / steps.MANIFEST
        os.mkfifo(manifest) if text is None else manifest.write_text(text)
    assert clean(state, 0, really=True)
    told = capsys.readouterr().err
    assert f"{str(worked['lost'])!r} is a link" in told
    assert worked["lost"].is_symlink()
    assert (moved / steps.MANIFEST).is_file()
    assert {"pipe-0", "deep-0", "foo-abc"} <= {folder.name for folder in (state / "data").iterdir()}
