"""The list of core lines keeps up with the code: every line is where it says, and every kind of both registries has one."""

import pytest

from tasks.training.methods.registry import METHODS
from tasks.training.remedies.registry import REMEDIES
from tests.core_lines import CORE_LINES, ROOT, CoreLine


@pytest.mark.parametrize("core", CORE_LINES, ids=lambda core: core.name)
def test_a_core_line_stands_once_in_its_file_and_its_tests_are_there(core: CoreLine) -> None:
    assert (ROOT / core.file).read_text(encoding="utf-8").count(core.line) == 1
    assert core.instead != core.line
    assert (ROOT / core.tests.split(" ")[0]).is_file()


def test_every_method_and_remedy_has_a_core_line() -> None:
    named = {core.name.split(",")[0] for core in CORE_LINES}
    assert not {*METHODS, *REMEDIES} - named


def test_no_name_is_given_twice() -> None:
    names = [core.name for core in CORE_LINES]
    assert len(set(names)) == len(names)
