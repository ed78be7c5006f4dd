"""A visible checkpoint is complete and verified, or it does not count."""

import shutil
from pathlib import Path

import pytest

from tasks.training.loop.checkpoints import HASHES, latest, list_checkpoints, publish, verify


def write(folder: Path, step: int) -> Path:
    temporary = folder / ".writing" / str(step)
    (temporary / "sub").mkdir(parents=True)
    (temporary / "model.safetensors").write_bytes(b"weights of %d" % step)
    (temporary / "sub" / "state.json").write_text(str(step))
    return publish(temporary, folder, step)


def test_checkpoints_are_listed_by_step_and_nothing_else_is(tmp_path):
    for step in (9, 100, 20):
        (tmp_path / f"step-{step}").mkdir()
    for name in (".writing", "step-x", "step-1.tmp", "checkpoint-5"):
        (tmp_path / name).mkdir()
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-9", "step-20", "step-100"]
    assert list_checkpoints(tmp_path / "missing") == []


def test_a_published_checkpoint_verifies_and_only_the_last_two_are_kept(tmp_path):
    for step in (2, 4, 10):
        assert verify(write(tmp_path, step))
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-4", "step-10"]
    assert latest(tmp_path) == tmp_path / "step-10"


@pytest.mark.parametrize(
    "damage",
    [
        "flip a weight",
        "cut a file",
        "remove a file",
        "remove the hashes",
        "empty the hashes",
        "a list of hashes",
    ],
)
def test_a_damaged_checkpoint_is_passed_over(tmp_path, damage):
    write(tmp_path, 1)
    folder = write(tmp_path, 2)
    if damage == "flip a weight":
        (folder / "model.safetensors").write_bytes(b"weights of 3")
    elif damage == "cut a file":
        (folder / "sub" / "state.json").write_text("")
    elif damage == "remove a file":
        shutil.rmtree(folder / "sub")
    elif damage == "remove the hashes":
        (folder / HASHES).unlink()
    else:
        (folder / HASHES).write_text("" if damage == "empty the hashes" else "[]")
    assert not verify(folder)
    assert latest(tmp_path) == tmp_path / "step-1"


def test_hashes_of_any_bytes_do_not_crash_the_resume(tmp_path):
    folder = write(tmp_path, 1)
    whole = (folder / HASHES).read_bytes()
    for place in range(len(whole)):
        (folder / HASHES).write_bytes(whole[:place] + bytes([whole[place] ^ 0x80]) + whole[place + 1 :])
        assert latest(tmp_path) is None


def test_without_a_whole_checkpoint_training_starts_afresh(tmp_path):
    assert latest(tmp_path) is None
    (tmp_path / "step-3").mkdir()
    assert latest(tmp_path) is None


def test_a_step_written_again_replaces_the_damaged_one(tmp_path):
    (write(tmp_path, 5) / "model.safetensors").write_bytes(b"")
    assert verify(write(tmp_path, 5))
