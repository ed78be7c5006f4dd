"""Promise 10: what rests on stored bytes has read them. Every kind of stored file is damaged, through the command line.

Which files there are is read from the manifests of a finished run, so a new kind of step is covered by itself.
"""

import json
import os
import shlex
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.cli.models import find_run_model
from schemas.errors import UserError
from tasks.release.promotion.promotion import promote_by_hand
from tasks.release.record.run_record import FILE, RunRecord, read_record
from tasks.storage.steps import MANIFEST, Step, open_step
from tests.command_line import ROOT, Done, rootstock
from tests.promises.conftest import Project, make_project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
RUN = ("run", "spec.yaml", "--no-prefect")


WATCHED = """
import hashlib, os
digest = hashlib.file_digest
def file_digest(file, *arguments):
    with open("reads", "a") as out:
        print(os.getpid(), os.path.abspath(file.name), file=out)
    return digest(file, *arguments)
hashlib.file_digest = file_digest
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Project:
    """A project whose specification has been run to its verdict."""
    project = make_project(tmp_path_factory.mktemp("stored"), tiny_base)
    project.change(training={**json.loads(project.spec.read_text())["training"], "epochs": 1})
    (project.folder / "watched").mkdir()
    (project.folder / "watched" / "sitecustomize.py").write_text(WATCHED)
    time.sleep(1.1)  # what was written within the last second is read again
    path = {"PYTHONPATH": f"{project.folder / 'watched'}{os.pathsep}{ROOT}"}
    done = rootstock(*RUN, "--json", cwd=project.folder, env=path)
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


def test_base_and_data_are_hashed_once_in_a_process(finished: Project, tiny_base: Path) -> None:
    reads = Counter((finished.folder / "reads").read_text().splitlines())
    files = {line.partition(" ")[2] for line in reads}
    given = {
        str(file)
        for file in (*tiny_base.iterdir(), *finished.folder.glob("*.jsonl"), *finished.folder.glob("*.txt"))
    }
    assert len(files & given) >= 6
    assert {
        line: count for line, count in reads.items() if line.partition(" ")[2] in given and count > 1
    } == {}


def test_a_flipped_byte_in_any_stored_file_is_found(copied: Project) -> None:
    state = copied.folder / ".rootstock"
    files = stored(copied)
    kinds = {folder.name.rpartition("-")[0] for folder, _ in files}
    data = {"read", "validate", "gate", "divide", "encode", "tokenize", "plan"}
    assert kinds >= {*data, "train", "score", "latency"}
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


DAMAGES: dict[str, Callable[[Path], object]] = {
    "flipped": flip,
    "emptied": lambda file: file.write_bytes(b""),
    "deleted": lambda file: file.unlink(),
    "a folder": lambda file: (file.unlink(), file.mkdir()),
}


def restore(file: Path, whole: bytes) -> None:
    if file.is_dir():
        file.rmdir()
    file.write_bytes(whole)


@pytest.mark.parametrize("damage", DAMAGES)
def test_each_file_of_a_finished_run_is_named_before_its_model_is_used(
    copied: Project, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.chdir(copied.folder)
    state, run = Path(".rootstock"), Path(".rootstock/runs") / run_of(copied).name
    record = read_record(run)
    assert isinstance(record, RunRecord)
    names = [file.path for file in record.files if file.bytes]
    assert {"decision.json", "scores.json", "lineage.json", "ledger.json", "incumbent.json", "spec.yaml", "report.html",
            "metrics.jsonl", "model/model.safetensors", "model/tokenizer.json", "model/config.json"} <= set(names)  # fmt: skip
    for name in (*names, FILE):
        whole = (run / name).read_bytes()

        def do_damage(name: str = name, whole: bytes = whole) -> None:
            restore(run / name, whole)
            DAMAGES[damage](run / name)

        do_damage()
        with pytest.raises(UserError) as promoting:
            promote_by_hand(state, run)
        assert Path(name).parts[0] in promoting.value.where
        told = [promoting.value]
        if (name, damage) != (FILE, "deleted"):  # as if the run had not come to its end
            do_damage()  # a specification has come back from the record meanwhile
            with pytest.raises(UserError) as using:
                find_run_model(state, run.name)
            told.append(using.value)
        for error in told:
            assert "rootstock run " in error.fix
        restore(run / name, whole)
    assert find_run_model(state, run.name) == str(run / "model")


def follow_remedy(project: Project, done: Done) -> Done | None:
    """Do what the only error of a command says."""
    assert done.code == 2, done.err
    (error,) = done.errors
    command = error[2].removeprefix("run: ").split(" (what is damaged")[0]
    first, *rest = shlex.split(command)
    if first == "rootstock":
        return rootstock(*rest, "--no-prefect", cwd=project.folder)
    subprocess.run(command, shell=True, cwd=project.folder, check=True)
    return None


def history(project: Project) -> Any:
    return rootstock("history", "tiny", "--json", cwd=project.folder).json()


def test_a_run_damaged_all_over_is_done_again_by_the_printed_remedy(copied: Project) -> None:
    run = run_of(copied)
    record, before = read_record(run), history(copied)
    assert isinstance(record, RunRecord)
    decision = (run / "decision.json").read_bytes()
    ways = list(DAMAGES.values())
    for number, file in enumerate(file for file in record.files if file.bytes):
        ways[number % len(ways)](run / file.path)
    traced = rootstock("trace", "domain-0.jsonl:1", cwd=copied.folder)
    assert (traced.code, "lineage.json" in traced.err) == (2, True)
    again = follow_remedy(copied, rootstock("promote", run.name, cwd=copied.folder))
    assert again is not None
    assert f"run {run.name} is damaged, so it is concluded again: " in again.err
    assert again.out.splitlines()[-1] == f"verdict: {json.loads(decision)['verdict']}"
    assert (run / "decision.json").read_bytes() == decision
    assert history(copied) == before, "it was released before: nothing moves"
    assert rootstock(*RUN, cwd=copied.folder).out.startswith("nothing to do")
    assert rootstock("promote", run.name, cwd=copied.folder).code == 0
    assert rootstock("generate", run.name, "The", "--max-new-tokens", "2", cwd=copied.folder).code == 0


def test_a_damaged_record_is_told_and_written_anew(copied: Project) -> None:
    run, before = run_of(copied), history(copied)
    flip(run / FILE)
    again = follow_remedy(copied, rootstock("promote", run.name, cwd=copied.folder))
    assert again is not None
    assert again.code == 0, again.err
    assert history(copied) == before
    assert rootstock("promote", run.name, cwd=copied.folder).code == 0


def test_where_the_data_have_changed_the_model_comes_back_from_its_step(copied: Project) -> None:
    run = run_of(copied)
    with (copied.folder / "domain-0.jsonl").open("a") as file:
        file.write('{"text": "One row more, of no topic at all.", "topic": "more"}\n')
    for name in ("model.safetensors", "config.json"):
        flip(run / "model" / name)
    (run / "model" / "added_tokens.json").write_text("{}")
    for _ in range(3):
        assert follow_remedy(copied, rootstock("export", run.name, "--to", "out", cwd=copied.folder)) is None
    done = rootstock("export", run.name, "--to", "out", cwd=copied.folder)
    assert done.code == 0, done.err
