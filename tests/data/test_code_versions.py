"""A step's name holds the version of all code that does its work, or a changed file would not run it again."""

import ast
from pathlib import Path

import pytest

from tasks.data import divide, plan, sources, tokenize

ROOT = Path(__file__).parents[2]
OWNERS = {f"tasks.data.{name}" for name in ("sources", "divide", "tokenize", "labels", "plan", "prepare")}
"""They have steps of their own: what they hand over is named by those steps' keys."""


def imports(module: str) -> set[str]:
    """Modules of tasks.data that a module imports, at its top or inside."""
    tree = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
    found = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    return {name for name in found if name.startswith("tasks.data.")}


def code_behind(modules: set[str]) -> set[str]:
    """Files of the modules and of all they import, other steps' owners left out."""
    seen: set[str] = set()
    waiting = set(modules)
    while waiting:
        module = waiting.pop()
        seen.add(module)
        waiting |= imports(module) - OWNERS - seen
    return {f"{module.replace('.', '/')}.py" for module in seen}


@pytest.mark.parametrize(
    ("modules", "code"),
    [
        ({"tasks.data.shard", "tasks.data.validate"}, sources.READING_CODE),
        ({"tasks.data.divide"}, divide.CODE),
        ({"tasks.data.tokenize"}, tokenize.CODE),
        ({"tasks.data.plan"}, plan.CODE),
    ],
    ids=["reading", "dividing", "tokenising", "planning"],
)
def test_all_code_of_a_step_counts_for_its_name(modules: set[str], code: tuple[str, ...]) -> None:
    assert code_behind(modules) - set(code) == set()
    assert all((ROOT / file).is_file() for file in code)
