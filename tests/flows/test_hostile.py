"""Odd files, names and numbers on every road of the command line: three lines and exit 2, never a traceback, nothing lost."""

import gzip
import json
import os
import socket
import subprocess
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import BaseModel

from schemas.errors import UserError, UserErrors
from schemas.reading import yaml_reader
from schemas.reading.files import matching_files
from schemas.results.comparison import Comparison
from schemas.results.remedy_comparison import RemedyComparison
from schemas.spec.run import RunSpec
from schemas.spec.sources import Source
from tasks.data.read.reader import read_rows
from tasks.data.read.shards import plan_shards, size_of
from tests.command_line import Done
from tests.in_process import rootstock_here

ROOT = Path(__file__).parents[2]
SPEC: dict[str, Any] = {
    "name": "odd",
    "base": {"from_scratch": {}},
    "domain": [{"path": "data/a.jsonl", "contract": "domain_text"}],
    "mixture": {"replay_ratio": 0},
    "training": {"steps": 3},
    "evaluation": {"domain_holdout": 0.1},
}
ROWS = '{"text": "one row of text"}\n' * 30
NOT_UTF8 = os.fsdecode(b"b\xff\n'.jsonl")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for folder in ("data", "model", "odd"):
        (tmp_path / folder).mkdir()
    (tmp_path / "data/a.jsonl").write_text(ROWS)
    (tmp_path / "model/config.json").write_text("{}")
    (tmp_path / "spec.yaml").write_text(json.dumps(SPEC))
    return tmp_path


def refused(done: Done) -> list[tuple[str, str, str]]:
    """The errors of a command that must be refused as the user's mistake."""
    assert done.code == 2, done.err[-2000:]
    assert done.errors
    return done.errors


def put(kind: str, place: Path) -> None:
    """Something at `place` that is no file."""
    if kind == "a pipe":
        os.mkfifo(place)
    elif kind == "a socket":
        here = Path.cwd()
        os.chdir(place.parent)  # a socket's path may only be short
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(place.name)
        os.chdir(here)
    elif kind == "a folder":
        place.mkdir()
        (place / "more.jsonl").write_text(ROWS)
    elif kind == "a link to nothing":
        place.symlink_to("nowhere.jsonl")
    elif kind == "a device":
        place.symlink_to("/dev/zero")
    else:
        place.symlink_to(place.name)


KINDS = ["a pipe", "a socket", "a folder", "a link to nothing", "a device", "not readable (Too many levels"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_glob_loses_nothing_without_a_word(project: Path, kind: str) -> None:
    put(kind, project / "data" / "b.jsonl")
    for path in ("data/*.jsonl", "data/*", "data/b.jsonl", "./data/[b].jsonl", "data/**/b*"):
        [(what, where, fix)] = refused(rootstock_here("check", "domain_text", "--data", path, cwd=project))
        assert f"is {kind}" in what
        assert where.endswith("data/b.jsonl")
        assert fix
        source = [{"path": path, "contract": "domain_text"}]
        (project / "odd.yaml").write_text(json.dumps({**SPEC, "domain": source}))
        [(what, where, _)] = refused(rootstock_here("run", "odd.yaml", cwd=project))
        assert "data/b.jsonl" in what
        assert ("folder" if kind == "a folder" else kind) in what
        assert where == "odd.yaml:1"


def test_a_recursive_glob_goes_through_folders(project: Path) -> None:
    (project / "data/sub/empty").mkdir(parents=True)
    (project / "data/sub/b.jsonl").write_text(ROWS)
    found = matching_files(f"{project}/data/**")
    assert [Path(file).name for file in found] == ["a.jsonl", "b.jsonl"]
    (project / "data/left.jsonl").mkdir()
    (project / "data/left.jsonl/c.txt").write_text("lost")
    with pytest.raises(UserErrors, match="this is a folder"):
        matching_files(f"{project}/data/**/*.jsonl")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not look")
def test_a_glob_does_not_pass_over_a_closed_folder(project: Path) -> None:
    for folder in (project, *project.parents):
        folder.chmod(0o755) if folder.is_relative_to("/tmp/pytest-of-root") else None
    (project / "data/closed").mkdir(mode=0o700)
    (project / "data/closed/b.jsonl").write_text(ROWS)
    os.seteuid(65534)
    try:
        with pytest.raises(UserErrors, match="no permission to look into this folder") as told:
            matching_files(f"{project}/data/**/*.jsonl")
    finally:
        os.seteuid(0)
    assert told.value.where.endswith("/data/closed")


def test_a_name_that_is_no_text_is_refused_and_the_remedy_works(project: Path) -> None:
    (project / "data" / NOT_UTF8).write_text(ROWS)
    for path in ("data/*", f"data/{NOT_UTF8}"):
        [(what, _, fix)] = refused(rootstock_here("check", "domain_text", "--data", path, cwd=project))
        assert "no UTF-8" in what
    subprocess.run(["bash", "-c", fix.removeprefix("rename it: ")], cwd=project, check=True)
    done = rootstock_here("check", "domain_text", "--data", "data/*", cwd=project)
    assert "passed on 60 rows" in done.out
    (project / "spec.yaml").rename(project / os.fsdecode(b"spec\xff.yaml"))
    [(what, _, fix)] = refused(rootstock_here("run", os.fsdecode(b"spec\xff.yaml"), cwd=project))
    assert "no UTF-8" in what
    subprocess.run(["bash", "-c", fix.removeprefix("rename it: ")], cwd=project, check=True)
    assert (project / "spec_.yaml").is_file()


@pytest.mark.parametrize("verb", [("run",), ("plan",), ("compare",), ("compare-remedies",), ("contract", "lint")])  # fmt: skip
def test_a_specification_is_a_file_and_has_a_size(project: Path, verb: tuple[str, ...]) -> None:
    os.mkfifo(project / "fifo")
    with (project / "sparse.yaml").open("wb") as huge:
        huge.truncate(5 << 30)
    for file, told in (
        ("/dev/zero", "this is a device, not a file"),
        ("fifo", "this is a pipe (FIFO), not a file"),
        ("data", "this is a folder, not a file"),
        ("sparse.yaml", "the file is larger than 4 MiB: no specification is"),
        ("x" * 300, "cannot read the file: File name too long"),
    ):
        assert [what for what, _, _ in refused(rootstock_here(*verb, file, cwd=project))] == [told]


def test_too_many_values_are_told_as_what_they_are(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_reader, "MAX_VALUES", 1000)  # reading a hundred thousand takes seconds
    (project / "many.yaml").write_text("name: [" + "1," * 1001 + "1]\n")
    [(what, _, fix)] = refused(rootstock_here("run", "many.yaml", cwd=project))
    assert (what, "alias" in fix) == ("more than 1,000 values", False)
    aliases = "a0: &a0 [1, 1]\n" + "".join(f"a{n + 1}: &a{n + 1} [*a{n}, *a{n}]\n" for n in range(20))
    (project / "alias.yaml").write_text(aliases)
    [(what, _, fix)] = refused(rootstock_here("run", "alias.yaml", cwd=project))
    assert (what, "alias" in fix) == ("more than 1,000 values", True)


def numbers(annotation: Any, notes: list[Any]) -> Iterator[list[Any]]:
    """The limits of each number inside an annotation."""
    if typing.get_origin(annotation) is typing.Annotated:
        inner, *more = typing.get_args(annotation)
        yield from numbers(inner, [*notes, *more])
    elif annotation in (int, float):
        yield [note for one in notes for note in (one, *getattr(one, "metadata", ()))]
    else:
        union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
        for part in typing.get_args(annotation):
            yield from numbers(part, notes if union else [])


def models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in typing.get_args(annotation) for model in models(part)]


def test_every_number_of_every_file_that_people_write_has_bounds() -> None:
    seen: set[type[BaseModel]] = set()
    waiting: list[type[BaseModel]] = [RunSpec, Comparison, RemedyComparison]
    unbound = []
    while waiting:
        model = waiting.pop()
        if model in seen:
            continue
        seen.add(model)
        for name, field in model.model_fields.items():
            waiting += models(field.annotation)
            for limits in numbers(field.annotation, list(field.metadata)):
                above = any(
                    getattr(limit, kind, None) is not None for limit in limits for kind in ("le", "lt")
                )
                below = any(
                    getattr(limit, kind, None) is not None for limit in limits for kind in ("ge", "gt")
                )
                unbound += [] if above and below else [f"{model.__name__}.{name}"]
    assert unbound == []
    assert len(seen) > 30


@pytest.mark.parametrize(
    "text",
    ["training.steps=99999999999999999999", "training.epochs=1e300", "training.batch_tokens=99999999999999999999", "training.seed=-1",
     "method={kind: lora, r: 99999999999999999999}", "evaluation.max_tokens=99999999999999999999", "training.steps=1000000000",
     "remedies=[{kind: ewc, general_tokens: 99999999999999999999}]", "domain.0.columns.text=99999999999999999999", "training.weight_decay=1e308",
     "base={from_scratch: {layers: 99999999999999999999}}", "promotion.min_gain=.inf", "mixture.replay_ratio=-.inf", "training.steps=" + "9" * 5000],
)  # fmt: skip
def test_a_number_beyond_sense_is_refused_before_any_work(project: Path, text: str) -> None:
    errors = refused(rootstock_here("run", "spec.yaml", "--set", text, cwd=project))
    assert all(where.startswith(("--set ", "spec.yaml:1")) for _, where, _ in errors)
    assert not (project / ".rootstock").exists()


HUGE = "99999999999999999999"
ODD_NUMBERS = [
    ("generate", "model", "p", "--seed", HUGE), ("generate", "model", "p", "--seed", "-1"), ("generate", "model", "p", "--temperature", "nan"),
    ("generate", "model", "p", "--temperature", "1e-300"), ("generate", "model", "p", "--temperature", "inf"), ("generate", "model", "p", "--top-p", "nan"),
    ("generate", "model", "p", "--max-new-tokens", HUGE), ("export", "model", "--to", "out", "--drop-blocks", HUGE),
    ("combine", "model", "model", "--to", "out", "--weights", "nan,1"), ("combine", "model", "model", "--to", "out", "--weights", "1e300,1"),
    ("combine", "model", "model", "--to", "out", "--how", "ties", "--density", "nan"), ("combine", "model", "model", "--to", "o", "--how", "dare_ties", "--seed", HUGE),
    ("choose-replay", "spec.yaml", "--budget", "nan"), ("compare", "spec.yaml", "--parallel", HUGE), ("serve", "--port", HUGE), ("serve", "--port", "65535"),
    ("trace", "data/a.jsonl:" + HUGE), ("trace", "data/a.jsonl:²"), ("trace", "data/a.jsonl:-1"),
]  # fmt: skip
ODD_NAMES = [
    "../..",
    "..",
    ".",
    "/",
    "a/b",
    "A",
    "x" * 300,
    "[/b]",
    "\x1b[2J",
    "é",
    "x\n",
    "",
    "*",
    os.fsdecode(b"\xff"),
]
"""What no model and no run is called."""


@pytest.mark.parametrize("arguments", ODD_NUMBERS)
def test_an_odd_number_on_the_command_line_is_refused(project: Path, arguments: tuple[str, ...]) -> None:
    refused(rootstock_here(*arguments, cwd=project))


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_name_that_nothing_is_called_leads_nowhere(project: Path, name: str) -> None:
    (project / "state" / "runs").mkdir(parents=True)
    before = sorted(map(str, project.rglob("*")))
    for verb in (
        ("rollback",),
        ("history",),
        ("promote",),
        ("promote", "--force", "--reason", "x"),
        ("export", "--to", "out"),
        ("trace",),
    ):
        done = rootstock_here(verb[0], "--state", "state", *verb[1:], "--", name, cwd=project)
        refused(done)
    assert sorted(map(str, project.rglob("*"))) == before


@pytest.mark.parametrize(
    "target", ["model", "model/deep/copy", "data/a.jsonl/x", "dangling", "spec.yaml", "."]
)
def test_a_place_that_cannot_be_written_is_told(project: Path, target: str) -> None:
    (project / "dangling").symlink_to("nowhere")
    (project / "model/model.safetensors").write_bytes(b"x")
    for verb in (("export", "model"), ("export", "model", "--merge"), ("combine", "model", "model")):
        if verb[0] == "combine" and target in ("model/deep/copy", "data/a.jsonl/x"):
            continue  # a combination looks at its models first, and copies no folder
        [(_, where, _)] = refused(rootstock_here(*verb, "--to", target, cwd=project))
        assert target in where
    assert not (project / "model/deep").exists()


def test_an_option_without_effect_is_refused(project: Path) -> None:
    for other in ("--no-prefect", "--dry-run"):
        [(what, where, _)] = refused(
            rootstock_here("run", "spec.yaml", "--dask", "tcp://x:1", other, cwd=project)
        )
        assert other in what
        assert where == "--dask"
    assert refused(
        rootstock_here("run", "spec.yaml", "--set", "nope.x:²=1", "--set", "domain.²=1", cwd=project)
    )
    [(what, _, _)] = refused(rootstock_here("check", "domain_text", "--data", "", cwd=project))
    assert what == "a path is empty"


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.csv", "a.json"])
def test_a_file_that_goes_away_is_named(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    rows = {"csv": b"text\nx\n", "json": b'[{"text": "x"}]'}.get(file.suffix[1:], ROWS.encode())
    zstd = pa.compress(rows, "zstd", asbytes=True)
    file.write_bytes({".gz": gzip.compress(rows), ".zst": zstd}.get(file.suffix, rows))
    shards = plan_shards(Source(path=str(file), contract="domain_text"), [str(file)])
    file.unlink()
    with pytest.raises(UserError) as told:
        list(read_rows(shards[0]))
    assert (told.value.what, told.value.where) == (
        "cannot read the file: No such file or directory",
        str(file),
    )
    with pytest.raises(UserError, match="cannot read the file"):
        size_of(str(file))


def test_a_reader_that_goes_away_is_no_broken_contract(project: Path) -> None:
    shell = f"{sys.executable} -P -m flows.cli.main schema | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", shell],
        cwd=project,
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 141
    assert done.stderr == b""
