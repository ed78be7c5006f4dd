"""A step's name holds the version of all code that does its work, or a changed file would not run it again."""

import ast
import importlib.metadata
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.storage import code
from tasks.storage.code import code_version, reach
from tests.command_line import HEAVY, ROOT, rootstock
from tests.corpora import make_spec, source, write_rows
from tests.tiny_base import prose

STEPS = ("tasks.evaluation.scoring.score_model", "tasks.evaluation.scoring.predictions", "tasks.training.remedies.ewc",
         "tasks.training.remedies.distillation", "tasks.training.remedies.easy_samples", "tasks.training.train",
         "tasks.evaluation.scoring.latency", "tasks.training.remedies.self_replay", "flows.replay.choose_replay")  # fmt: skip
"""Modules whose steps load models: a repaired merge must do them again."""
OPTIONAL = {"bitsandbytes"}


def sources() -> Iterator[tuple[Path, ast.Module]]:
    for package in code.PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            yield file, ast.parse(file.read_bytes())


@pytest.fixture
def forget() -> Iterator[Callable[[], None]]:
    """Forget what was read of the source, now and at the end."""

    def clear() -> None:
        for cached in (code_version, code._imports, code._is_module, code._sha256, code._version):
            cached.cache_clear()

    clear()
    yield clear
    clear()


@pytest.mark.parametrize("module", STEPS)
def test_what_loads_a_model_is_named_by_all_that_loads_and_merges_it_and_by_peft(module: str) -> None:
    modules, libraries = reach(module)
    assert {
        "tasks.training.models.load",
        "tasks.training.models.tuned_files",
        "tasks.training.methods.lora",
    } <= set(modules)
    assert {"torch", "transformers", "accelerate", "peft"} <= set(libraries)


def test_reading_is_not_named_by_training() -> None:
    modules, libraries = reach("tasks.data.validate.sources")
    assert {"tasks.data.validate.validate_shard", "tasks.data.read.reader", "data_contracts.gate"} <= set(
        modules
    )
    assert not [name for name in modules if name.startswith(("tasks.training", "tasks.evaluation", "flows"))]
    assert not {"torch", "peft", "transformers"} & set(libraries)


def test_every_import_that_can_run_is_followed_and_those_for_types_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forget: Callable[[], None]
) -> None:
    text = """
        import json
        from typing import TYPE_CHECKING
        from tasks import top
        if TYPE_CHECKING:
            from tasks import unseen
        else:
            import tasks.otherwise
        def work():
            try:
                import tasks.tried
            except ImportError:
                from tasks.caught import anything
            with open("x"):
                for _ in ():
                    from tasks.looped import name as other
            match work:
                case 1:
                    from tasks.matched import one
        class Later:
            async def call(self):
                import peft.tuners
                from tasks.deep.inner import value
        """
    names = ["top", "otherwise", "tried", "caught", "looped", "matched"]
    (tmp_path / "tasks" / "deep").mkdir(parents=True)
    for name in ("__init__", "unseen", "beyond", *names, "deep/__init__", "deep/inner"):
        (tmp_path / "tasks" / f"{name}.py").write_text("x = 1\n")
    lines = [line.removeprefix("        ") for line in text.splitlines()]
    (tmp_path / "tasks" / "work.py").write_text("\n".join(lines))
    (tmp_path / "tasks" / "caught.py").write_text("from tasks.beyond import x\n")
    monkeypatch.setattr(code, "ROOT", tmp_path)
    seen = {f"tasks.{name}" for name in (*names, "beyond", "deep", "deep.inner", "work")} | {"tasks"}
    assert reach("tasks.work") == (sorted(seen), ["peft"])
    version = code_version("tasks.work")
    for name in [*sorted(seen - {"tasks.work"}), "tasks.unseen"]:
        file = code._file(name)
        before = file.read_bytes()
        file.write_bytes(before + b"# repaired\n")
        forget()
        assert (code_version("tasks.work") != version) == (name != "tasks.unseen"), name
        file.write_bytes(before)


def test_another_version_of_peft_scores_again_and_reads_nothing_again(
    monkeypatch: pytest.MonkeyPatch, forget: Callable[[], None]
) -> None:
    before = {
        module: code_version(module)
        for module in ("tasks.evaluation.scoring.score_model", "tasks.data.validate.sources")
    }
    installed = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "99" if name == "peft" else installed(name)
    )
    forget()
    assert (
        code_version("tasks.evaluation.scoring.score_model") != before["tasks.evaluation.scoring.score_model"]
    )
    assert code_version("tasks.data.validate.sources") == before["tasks.data.validate.sources"]


def test_steps_are_named_by_the_module_that_does_the_work_and_no_list() -> None:
    named = {"__name__": "its own", "'tasks.training.train'": "of training_plan", "module": "of measure_base"}
    calls = {
        ast.unparse(argument)
        for file, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "code_version" and file.stem != "code"
        for argument in node.args
    }
    assert calls <= named.keys()


def test_no_step_reaches_what_imports_by_a_name_made_at_run_time() -> None:
    """Such an import could not be followed."""
    reached = {
        name
        for module in (*STEPS, "tasks.data.plan.plan", "tasks.data.labels.labels")
        for name in reach(module)[0]
    }
    found = [
        f"{file}:{node.lineno}"
        for file, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__")
        and ".".join(file.relative_to(ROOT).with_suffix("").parts) in reached
    ]
    assert found == []


def test_every_library_is_found_under_the_name_it_is_installed_by() -> None:
    libraries = {library for module in STEPS for library in reach(module)[1]} - OPTIONAL
    assert [library for library in sorted(libraries) if code._version(library) is None] == []


def copy_project(folder: Path) -> Path:
    """The sources as a wheel installs them: packages beside each other, and nothing else."""
    for package in code.PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def test_where_it_is_installed_it_tells_a_repaired_merge_without_importing_anything_heavy(
    tmp_path: Path,
) -> None:
    place = copy_project(tmp_path)
    program = (
        f"import json, sys; sys.path.insert(0, {str(place)!r}); from tasks.storage import code;"
        "modules = ['tasks.evaluation.scoring.score_model', 'tasks.training.remedies.ewc', 'tasks.data.validate.sources'];"
        "print(json.dumps([code.__file__, [code.code_version(m) for m in modules], list(sys.modules)]))"
    )

    def versions() -> list[str]:
        done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, cwd="/", check=True)
        file, found, imported = json.loads(done.stdout)
        assert file.startswith(str(place))
        assert not set(HEAVY) & set(imported)
        return list(found)

    before = versions()
    with (place / "tasks" / "training" / "models" / "load.py").open("a") as file:
        file.write("# repaired\n")
    after = versions()
    assert [was == now for was, now in zip(before, after, strict=True)] == [False, False, True]


@pytest.mark.slow
def test_a_repaired_merge_scores_again_and_reads_nothing_again(tmp_path: Path) -> None:
    project, place = copy_project(tmp_path / "project"), tmp_path / "work"
    write_rows(place / "domain.jsonl", [line[:200] for line in prose("en_*")])
    write_rows(place / "general.jsonl", [line[:200] for line in prose("zh_*")[:20]])
    base = str(ROOT / "assets" / "base")
    spec = make_spec(
        base=base,
        domain=[source("domain.jsonl")],
        evaluation={"domain_holdout": 0.2, "general": [source("general.jsonl")]},
    )
    (place / "spec.yaml").write_text(spec.model_dump_json(exclude_unset=True))

    def steps() -> dict[str, int]:
        done = rootstock("evaluate", base, "spec.yaml", cwd=place, env={"PYTHONPATH": str(project)})
        assert done.code == 0, done.err
        folders = [folder.name.rpartition("-")[0] for folder in (place / ".rootstock" / "data").iterdir()]
        return {name: folders.count(name) for name in folders}

    before = steps()
    with (project / "tasks" / "training" / "models" / "load.py").open("a") as file:
        file.write("# repaired\n")
    assert steps() == {**before, "score": before["score"] + 1}
