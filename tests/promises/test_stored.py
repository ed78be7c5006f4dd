"""Promise 10: what rests on stored bytes has read them. Every kind of stored file is damaged, through the command line.

Which files there are is read from the manifests of a finished run, so a new kind of step is covered by itself.
"""

import json
import os
import shutil
from pathlib import Path

import pytest

from tasks.storage.steps import MANIFEST, Step, open_step
from tests.command_line import rootstock
from tests.promises.conftest import Project, make_project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
RUN = ("run", "spec.yaml", "--no-prefect")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Project:
    """A project whose specification has been run to its verdict."""
    project = make_project(tmp_path_factory.mktemp("stored"), tiny_base)
    project.change(training={**json.loads(project.spec.read_text())["training"], "epochs": 1})
    done = rootstock(*RUN, "--json", cwd=project.folder)
    assert done.code in (0, 10, 11), done.err
    (project.folder / "outcome.json").write_text(done.out)
    return project


def run_of(project: Project) -> Path:
    told = json.loads((project.folder / "outcome.json").read_text())
    return project.folder / str(told["folder"])


@pytest.fixture
def copied(finished: Project, tmp_path: Path) -> Project:
    """The same project for a test that damages it."""
    folder = Path(shutil.copytree(finished.folder, tmp_path / "project"))
    return Project(folder, folder / "spec.yaml")


def flip(file: Path) -> None:
    """Change one bit in the middle; size and time stay."""
    stat, content = file.stat(), bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def stored(project: Project) -> list[tuple[Path, Path]]:
    """(step, file) of everything in every step's folder, manifests too."""
    folders = sorted(path for path in (project.folder / ".rootstock/data").iterdir() if path.name[0] != ".")
    return [(folder, file) for folder in folders for file in sorted(folder.rglob("*")) if file.is_file()]


def test_a_flipped_byte_in_any_stored_file_is_found(copied: Project) -> None:
    state = copied.folder / ".rootstock"
    files = stored(copied)
    kinds = {folder.name.rpartition("-")[0] for folder, _ in files}
    assert kinds >= {"validate", "gate", "divide", "tokenize", "plan", "train", "score", "latency"}
    for folder, file in files:
        whole = file.read_bytes()
        if not whole:
            continue
        flip(file)
        damage = open_step(state, folder.name, thorough=False)
        assert not isinstance(damage, Step), file
        assert damage.file == file
        file.write_bytes(whole)
        assert isinstance(open_step(state, folder.name), Step), file
    for folder in {folder for folder, _ in files}:
        more = folder / "added_tokens.json"
        more.write_text("{}")
        assert not isinstance(open_step(state, folder.name), Step), folder
        more.unlink()


def test_damaged_steps_are_named_and_done_again_to_the_same_bytes(copied: Project) -> None:
    """A flipped byte in one file of every step, reused by a run with another name."""
    before = {file: file.read_bytes() for _, file in stored(copied)}
    damaged: dict[Path, Path] = {}
    for folder, file in stored(copied):
        if file.name != MANIFEST and file.stat().st_size:
            damaged[folder] = file  # the last of each: of the training its weights
    for folder, _ in stored(copied):
        damaged.setdefault(folder, folder / MANIFEST)
    for file in damaged.values():
        flip(file)
    done = rootstock(*RUN, "--set", "name=other", cwd=copied.folder)
    assert done.code in (0, 10, 11), done.err
    for folder, file in damaged.items():
        assert f"step {folder.name} is damaged, so it is done again: " in done.err
        assert str(file.relative_to(copied.folder)) in done.err
        if "latency" not in folder.name and folder.name.split("-")[0] != "train":
            after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
            assert after == {path: content for path, content in before.items() if path.is_relative_to(folder)}
    weights = [file for file in before if file.match("data/train-*/model/*.safetensors")]
    assert weights
    assert all(file.read_bytes() == before[file] for file in weights)
