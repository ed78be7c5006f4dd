"""Files and folders are whole or absent, whenever the process dies."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tasks.storage.atomic import atomic_folder, publish_folder, write_atomic


def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path):
    file = tmp_path / "new" / "a.json"
    write_atomic(file, "old")
    write_atomic(file, b"new")
    assert file.read_bytes() == b"new"
    assert [path.name for path in file.parent.iterdir()] == ["a.json"]


def test_a_write_that_fails_leaves_the_old_content(tmp_path, monkeypatch):
    file = tmp_path / "a.json"
    write_atomic(file, "old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(file, "new")
    assert file.read_text() == "old"


def test_a_folder_appears_only_when_its_block_ends(tmp_path):
    final = tmp_path / "out"
    with atomic_folder(final) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "a").write_text("x")
        assert not final.exists()
    assert (final / "sub" / "a").read_text() == "x"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_block_that_raises_leaves_no_folder_and_the_next_starts_empty(tmp_path):
    final = tmp_path / "out"

    def half(final):
        with atomic_folder(final) as folder:
            (folder / "half").write_text("x")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half(final)
    assert not final.exists()
    with atomic_folder(final) as folder:
        assert not list(folder.iterdir())
        (folder / "whole").write_text("y")
    assert [path.name for path in final.iterdir()] == ["whole"]


def test_publishing_replaces_an_older_folder(tmp_path):
    for name in ("old", "new"):
        (tmp_path / f".{name}").mkdir()
        (tmp_path / f".{name}" / name).write_text(name)
        publish_folder(tmp_path / f".{name}", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["new"]


WRITE_FOREVER = """
import sys, itertools
from pathlib import Path
from tasks.storage.atomic import atomic_folder, write_atomic
root = Path(sys.argv[1])
for number in itertools.count():
    write_atomic(root / "file", f"{number:09d}" * 2000)
    with atomic_folder(root / f"folder-{number % 3}") as folder:
        for name in "abc":
            (folder / name).write_text(f"{number:09d}" * 500)
    if number == 0:
        print("going", flush=True)
"""


@pytest.mark.parametrize("moment", range(4))
def test_a_kill_at_any_moment_leaves_everything_visible_whole(tmp_path, moment):
    process = subprocess.Popen([sys.executable, "-c", WRITE_FOREVER, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"going\n"
    time.sleep(0.013 * (moment + 1))
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    content = (tmp_path / "file").read_text()
    assert content == content[:9] * 2000
    for folder in tmp_path.glob("folder-*"):
        texts = {(folder / name).read_text() for name in "abc"}
        assert len(texts) == 1
        assert len(texts.pop()) == 9 * 500
