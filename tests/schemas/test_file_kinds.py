"""A file given to the wrong verb is told what it is, once."""

from pathlib import Path

import pytest

from data_contracts.lint import lint
from flows.comparing.load import load_comparison, load_remedy_comparison
from schemas.errors import UserError, UserErrors
from schemas.reading.load import load_spec
from tests.command_line import ROOT

RUN = ("a run specification", ROOT / "runs/quickstart.yaml", "run")
METHODS = ("a comparison of methods", ROOT / "runs/compare/quickstart.yaml", "compare")
REMEDIES = ("a comparison of remedies", ROOT / "runs/remedies/stories.yaml", "compare-remedies")
CONTRACT = ("a data contract", ROOT / "data_contracts/domain_text.odcs.yaml", "contract lint")
LOADERS = {"run": load_spec, "compare": load_comparison, "compare-remedies": load_remedy_comparison}


def told(file: Path, verb: str) -> list[UserError]:
    if verb == "contract lint":
        return lint(file)
    with pytest.raises(UserError) as error:
        LOADERS[verb](file)
    return error.value.errors if isinstance(error.value, UserErrors) else [error.value]


@pytest.mark.parametrize("given", [RUN, METHODS, REMEDIES, CONTRACT], ids=lambda kind: kind[2])
@pytest.mark.parametrize("wanted", [RUN, METHODS, REMEDIES, CONTRACT], ids=lambda kind: kind[2])
def test_the_wrong_kind_of_file_is_one_error_that_names_the_right_verb(given, wanted):
    if given is wanted:
        return
    [error] = told(given[1], wanted[2])
    assert error.what == f"this is {given[0]}, not {wanted[0]}"
    assert error.where == str(given[1])
    assert error.fix == f"run: rootstock {given[2]} {given[1]}"


def test_a_specification_with_a_few_keys_of_another_kind_is_still_one(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("name: a\nmethods: [{kind: lora}]\nbase: b/c\ndomain: []\nevaluation: {}\n")
    assert "methods is not a key of the specification" in {error.what for error in told(file, "run")}
