"""Who needs to know something of an objective, a record, a suite, a method or a remedy asks for a capability."""

from tests.kinds import switches

MOST = 20


def test_few_lines_ask_which_kind_something_is():
    found = list(switches())
    assert len(found) <= MOST, "\n".join(f"{file}:{line}: {text}" for file, line, text in found)
