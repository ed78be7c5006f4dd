"""A step runs once per content, is whole or absent, and runs again only when it must."""

import json
import multiprocessing
import os
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.storage.hashing import identity_of
from tasks.storage.intact import SMALL_BYTES
from tasks.storage.steps import MANIFEST, StepPlan, run_step


@pytest.fixture
def plan(tmp_path: Path) -> StepPlan:
    return StepPlan(root=tmp_path, name="count", inputs={"a": "1"}, settings={"x": 1}, code="c")


class Work:
    """Writes two files and counts how often it was done."""

    def __init__(self) -> None:
        self.done = 0

    def __call__(self, folder: Path) -> dict[str, int]:
        self.done += 1
        (folder / "sub").mkdir()
        (folder / "sub" / "a.bin").write_bytes(b"abc")
        (folder / "b.txt").write_text("b")
        return {"rows": 7}


def test_a_finished_step_is_a_no_op_and_says_the_same(plan):
    work = Work()
    first, second = run_step(plan, work), run_step(plan, work)
    assert work.done == 1
    assert first == second
    assert second.facts == {"rows": 7}
    assert [(f.path, f.bytes) for f in second.manifest.files] == [("b.txt", 1), ("sub/a.bin", 3)]
    assert second.folder.name == f"count-{plan.key[:20]}"


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"inputs": {"a": "2"}},
        {"inputs": {"b": "1"}},
        {"settings": {"x": 2}},
        {"code": "d"},
    ],
)
def test_whatever_goes_in_names_the_folder(plan, change):
    assert replace(plan, **change).key != plan.key
    assert replace(plan, **change).folder != plan.folder


def test_where_the_state_lies_does_not_change_the_key(plan, tmp_path):
    assert replace(plan, root=tmp_path / "elsewhere").key == plan.key


@pytest.mark.parametrize(
    "damage",
    [
        "file missing", "file cut", "manifest missing", "manifest of another version", "byte flipped", "fact flipped",
        "file more", "folder for file",
    ],
)  # fmt: skip
def test_a_damaged_step_is_named_and_done_again(plan, damage, capsys):
    work = Work()
    folder = run_step(plan, work).folder
    if damage == "file missing":
        (folder / "sub" / "a.bin").unlink()
    elif damage == "file cut":
        (folder / "sub" / "a.bin").write_bytes(b"ab")
    elif damage == "byte flipped":
        was = (folder / "sub" / "a.bin").stat()
        (folder / "sub" / "a.bin").write_bytes(b"abd")
        os.utime(folder / "sub" / "a.bin", ns=(was.st_atime_ns, was.st_mtime_ns))
    elif damage == "fact flipped":
        (folder / MANIFEST).write_text((folder / MANIFEST).read_text().replace('"rows": 7', '"rows": 6'))
    elif damage == "file more":
        (folder / "added_tokens.json").write_text("{}")
    elif damage == "folder for file":
        (folder / "b.txt").unlink()
        (folder / "b.txt").mkdir()
    elif damage == "manifest missing":
        (folder / MANIFEST).unlink()
    else:
        (folder / MANIFEST).write_text(json.dumps({"version": 0}))
    assert plan.finished() is None
    again = run_step(plan, work)
    assert work.done == 2
    assert f"step {folder.name} is damaged, so it is done again: '{folder}" in capsys.readouterr().err
    assert (again.folder / "sub" / "a.bin").read_bytes() == b"abc"


def test_a_large_file_is_read_where_it_is_asked_for_or_something_wrote_to_it(plan, monkeypatch):
    """Silent damage to the disk leaves inode, size and times: here `seen` is made to say so."""
    step = run_step(plan, lambda folder: {"large": (folder / "weights").write_bytes(bytes(SMALL_BYTES + 1))})
    seen = plan.root / "seen" / f"{plan.folder.name}.json"
    assert json.loads(seen.read_bytes()).keys() == {"weights"}
    weights = step.folder / "weights"
    weights.write_bytes(b"1" + weights.read_bytes()[1:])
    assert plan.finished(thorough=False) is None, "its times are others"
    seen.write_text(json.dumps({"weights": list(identity_of(weights.stat()))}))
    assert plan.finished(thorough=False) is not None
    assert plan.finished() is None


def test_work_that_fails_leaves_nothing_visible(plan):
    def fail(folder: Path) -> dict[str, int]:
        (folder / "half").write_text("x")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        run_step(plan, fail)
    assert not plan.folder.exists()
    assert [f.path for f in run_step(plan, Work()).manifest.files] == ["b.txt", "sub/a.bin"]


def count_slowly(folder: Path) -> dict[str, int]:
    import time

    with (folder.parent.parent / "log").open("a") as log:
        log.write("done\n")
    time.sleep(0.3)
    (folder / "out").write_text("x")
    return {}


def run_here(plan: StepPlan) -> str:
    return run_step(plan, count_slowly).key


def test_two_processes_that_want_the_same_step_do_it_once(plan, tmp_path):
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert pool.map(run_here, [plan, plan]) == [plan.key, plan.key]
    assert (tmp_path / "log").read_text() == "done\n"


def test_the_scratch_folder_is_hidden_beside_the_step(plan):
    assert plan.scratch.parent == plan.folder.parent
    assert plan.scratch.name == f".{plan.folder.name}.work"
