"""Each method and each remedy with one of its objectives, and each file of runs/, once through every command.

`python -m tests.all_pairs` tries every pair.
"""

import itertools
import json
import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from schemas.spec.run import RunSpec
from tasks.training.methods.registry import METHODS
from tasks.training.remedies.registry import REMEDIES
from tests.all_pairs import Case, all_cases, bundled_cases, train_adapters, try_case
from tests.command_line import ROOT

pytestmark = pytest.mark.slow
BUNDLED = sorted(f"runs/{file.name}" for file in (ROOT / "runs").glob("*.yaml"))
OBJECTIVES = ("language_modeling", "text_classification", "instruction", "token_classification", "multi_task")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pairs")


@pytest.fixture(scope="module")
def cases(place: Path) -> dict[str, Case]:
    return all_cases(place)


@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Case]]:
    folder = tmp_path_factory.mktemp("bundled")
    return folder, bundled_cases(folder)


def accepted(case: Case) -> bool:
    try:
        RunSpec.model_validate(json.loads(Path(case.file).read_text()))
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize(("number", "kind"), list(enumerate([*METHODS, *REMEDIES])))
def test_every_command_goes_on_with_each_method_and_each_remedy(
    place: Path, cases: dict[str, Case], number: int, kind: str
) -> None:
    """The next objective for each kind, of those that the schema accepts."""
    turned = itertools.islice(itertools.cycle(OBJECTIVES), number, number + len(OBJECTIVES))
    objective = next(name for name in turned if accepted(cases[f"{kind} x {name}"]))
    if kind == "adapter_fusion":
        train_adapters(place, cases, objective)
    _, faults = try_case(cases[f"{kind} x {objective}"], place)
    assert faults == []


@pytest.mark.parametrize("name", BUNDLED)
def test_every_command_goes_on_with_each_file_of_runs(
    bundled: tuple[Path, dict[str, Case]], name: str
) -> None:
    folder, files = bundled
    if "$ROOTSTOCK_DATA" in (ROOT / name).read_text(encoding="utf-8") and "ROOTSTOCK_DATA" not in os.environ:
        pytest.skip("reads the data folder, and ROOTSTOCK_DATA does not name one")
    ended, faults = try_case(files[name], folder)
    assert faults == []
    assert not ended.startswith("refused"), ended
