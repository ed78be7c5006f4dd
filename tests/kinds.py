"""Lists the lines that ask which objective, record, suite, method or remedy something is, outside its own file and its registry.

    python -m tests.kinds

What a line needs to know is a capability of the thing (`schemas/spec/objectives.py`, `methods/base.py`, ...), or is done by it.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from schemas.results.scores import AnySuite
from schemas.spec.methods.union import Method
from schemas.spec.objectives import OBJECTIVES
from schemas.spec.records import RECORDS
from schemas.spec.remedies import Remedy

ROOT = Path(__file__).parents[1]
PACKAGES = ("flows", "tasks", "schemas", "data_contracts")
OWN = ("schemas/spec/objectives.py", "schemas/spec/records.py", "schemas/spec/remedies.py", "schemas/results/scores.py",
       "schemas/spec/methods/", "tasks/training/methods/", "tasks/training/remedies/", "tasks/objectives/")  # fmt: skip
"""Where kinds are at home."""
METHODS, REMEDIES = get_args(get_args(Method)[0]), get_args(get_args(Remedy)[0])
CLASSES = {
    one.__name__
    for group in (OBJECTIVES.values(), RECORDS.values(), get_args(AnySuite), METHODS, REMEDIES)
    for one in group
}
NAMES = {*OBJECTIVES, *RECORDS, *(one.model_fields["kind"].default for one in (*METHODS, *REMEDIES))} - {
    "text"
}
"""Of the kinds; `text` is a column, too."""


def switches() -> Iterator[tuple[str, int, str]]:
    """File, line and text of each."""
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            name = file.relative_to(ROOT).as_posix()
            if name.startswith(OWN):
                continue
            text = file.read_text()
            lines = text.splitlines()
            found = {node.lineno for node in ast.walk(ast.parse(text)) if _asks(node)}
            yield from ((name, number, lines[number - 1].strip()) for number in sorted(found))


def _asks(node: ast.AST) -> bool:
    """isinstance of such a class, or one of their names compared or looked up."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance":
        return bool({n.id for n in ast.walk(node.args[1]) if isinstance(n, ast.Name)} & CLASSES)
    if isinstance(node, ast.Compare):
        return any(_is_kind(n) for side in (node.left, *node.comparators) for n in ast.walk(side))
    if isinstance(node, ast.Dict):
        return any(key is not None and _is_kind(key) for key in node.keys)
    return isinstance(node, ast.MatchValue) and _is_kind(node.value)


def _is_kind(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in NAMES


if __name__ == "__main__":
    found = list(switches())
    for file, line, text in found:
        print(f"{file}:{line}: {text}")
    print(f"{len(found)} lines ask for a kind")
