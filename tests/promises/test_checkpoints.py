"""Promise 5: a visible checkpoint is complete, also while older ones are being removed."""

from pathlib import Path

import pytest

from tasks.training.loop.checkpoints import KEPT, latest, list_checkpoints, publish, verify


def write(folder: Path, step: int) -> Path:
    written = folder / f"writing-{step}"
    written.mkdir(parents=True)
    for name in ("model.safetensors", "optimizer.pt"):
        (written / name).write_bytes(f"{name} of step {step}".encode())
    return publish(written, folder, step)


def test_killed_while_removing_an_old_checkpoint_every_visible_one_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def remove_half(folder: Path, **settings: bool) -> None:
        for weights in Path(folder).glob("*.safetensors"):
            weights.unlink()
            raise KeyboardInterrupt("as if killed")

    for step in range(1, KEPT + 1):
        write(tmp_path, step)
    with monkeypatch.context() as patched:
        patched.setattr("tasks.training.loop.checkpoints.shutil.rmtree", remove_half)
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path, KEPT + 1)
    visible = list_checkpoints(tmp_path)
    assert [path.name for path in visible] == [f"step-{step}" for step in range(2, KEPT + 2)]
    assert all(verify(path) for path in visible)
    assert latest(tmp_path) == tmp_path / f"step-{KEPT + 1}"
    write(tmp_path, KEPT + 2)
    assert not list(tmp_path.glob(".step-*")), "the next checkpoint clears away what the kill left"
