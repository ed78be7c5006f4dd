"""`rootstock combine` through the real command line: two trained models, scores before and after."""

import json
import shutil
from pathlib import Path

import pytest

from tasks.data.model.folder import model_sha256
from tests.command_line import rootstock
from tests.tiny_base import make_base
from tests.training.prepared import spec_of, train_here


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A specification, and the runs legal and news that were trained from its base."""
    folder = tmp_path_factory.mktemp("project")
    base = make_base(folder / "base")
    for run, seed in (("legal", 1), ("news", 2)):
        method = {"kind": "lora", "r": 4, "alpha": 16}
        spec = spec_of(folder, base, method=method, training={"steps": 8, "seed": seed})
        step = train_here(folder / "data", spec)
        shutil.copytree(step.folder / "model", folder / "state" / "runs" / run / "model")
    (folder / "spec.yaml").write_text(json.dumps(spec.model_dump(mode="json", exclude_none=True)))
    return folder


def test_base_models_and_combination_are_scored_on_the_same_suites(project: Path) -> None:
    done = rootstock(
        "combine", "legal", "news", "--weights", "1,0", "--to", "out", "--spec", "spec.yaml", "--state", "state",
        "--json", cwd=project,
    )  # fmt: skip
    assert done.code == 0, done.err
    told = done.json()
    assert told["folder"] == "out"
    assert told["changed_tensors"] > 0
    base, legal, news, combination = told["scores"]
    assert [row.pop("model") for row in told["scores"]] == ["base", "legal", "news", "combination"]
    assert list(base) == ["domain (nats per token)", "general (nats per token)"]
    assert combination == legal, "weights 1 and 0 are the first model"
    assert legal != news
    assert legal["domain (nats per token)"] < base["domain (nats per token)"]
    said = json.loads((project / "out" / "combination.json").read_text())
    assert [part["name"] for part in said["models"]] == ["legal", "news"]
    assert said["sha256"] == model_sha256(project / "out")


def test_without_a_specification_it_says_that_nothing_was_scored(project: Path) -> None:
    done = rootstock(
        "combine", "legal", "news", "--how", "dare_ties", "--density", "0.4", "--to", "drawn", "--state", "state",
        cwd=project,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "2 models combined by dare_ties in drawn" in done.out
    assert "nothing was scored" in done.out
    again = rootstock("generate", "./drawn", "The old", "--max-new-tokens", "3", cwd=project)
    assert again.code == 0, again.err


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("legal", "news", "--how", "blend"), "'blend' is no way to combine"),
        (("legal", "news", "--weights", "1,2,3"), "there are 3 weights for 2 models"),
        (("legal", "news", "--weights", "1;2"), "'1;2' is not a list of numbers"),
        (("legal", "news", "--set", "name=x"), "there is no specification to change"),
    ],
)
def test_a_mistake_is_told_at_once(project: Path, arguments: tuple[str, ...], what: str) -> None:
    done = rootstock("combine", *arguments, "--to", "never", "--state", "state", cwd=project, cold=True)
    assert done.code == 2
    assert [error[0] for error in done.errors] == [what]
    assert not done.heavy
    assert not (project / "never").exists()


def test_a_model_named_twice_is_refused(project: Path) -> None:
    done = rootstock("combine", "legal", "legal", "--to", "never", "--state", "state", cwd=project, cold=True)
    assert done.code == 2
    assert done.errors[0][0] == "a model is named twice"


def test_suites_for_task_heads_are_refused(project: Path) -> None:
    spec = json.loads((project / "spec.yaml").read_text())
    (project / "head.yaml").write_text(json.dumps({**spec, "objective": {"kind": "text_classification"}}))
    done = rootstock(
        "combine", "legal", "news", "--to", "never", "--spec", "head.yaml", "--state", "state", cwd=project
    )
    assert done.code == 2
    assert "suites are for text_classification" in done.errors[0][0]
