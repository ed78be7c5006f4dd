"""The version of the code that does a step's work: all source that it can reach by imports, and the libraries it uses.

Nobody keeps a list: a module's imports are followed, those inside functions too, through this project. What is imported
for types only is not run, and does not count.
"""

import ast
import importlib.metadata
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tasks.storage.hashing import sha256_file, sha256_value

ROOT = Path(__file__).parents[2]
PACKAGES = ("schemas", "data_contracts", "tasks", "flows")
DISTRIBUTIONS = {
    "great_expectations": "great-expectations",
    "charset_normalizer": "charset-normalizer",
    "ruamel": "ruamel.yaml",
}
"""Where what is imported is called otherwise than what is installed."""
WORKS_THROUGH = {"transformers": ("accelerate", "safetensors", "tokenizers")}
"""Libraries that do a part of the work although none of our files imports them."""


@cache
def code_version(module: str) -> str:
    """sha256 over the source that a module can reach (itself, too) and the versions of the libraries that this imports."""
    modules, libraries = reach(module)
    files = {name: _sha256(name) for name in modules}
    return sha256_value([files, {name: _version(name) for name in libraries}])


@cache
def project_version() -> str:
    """sha256 over all source of the project."""
    files = (file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py")))
    return sha256_value({file.relative_to(ROOT).as_posix(): sha256_file(file) for file in files})


def reach(module: str) -> tuple[list[str], list[str]]:
    """Modules of this project that a module imports, at any distance, itself among them; and the libraries."""
    seen: set[str] = set()
    libraries: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        own, foreign = _imports(name)
        waiting += own
        libraries |= foreign
    through = {more for name in libraries for more in WORKS_THROUGH.get(name, ())}
    return sorted(seen), sorted(libraries | through)


@cache
def _imports(module: str) -> tuple[frozenset[str], frozenset[str]]:
    """Modules of this project that one file imports, with the packages they lie in; and top names of libraries."""
    own: set[str] = set()
    foreign: set[str] = set()
    for name, parts in _import_statements(ast.parse(_file(module).read_bytes()).body):
        top = name.partition(".")[0]
        if top in PACKAGES:
            names = (name, *(f"{name}.{part}" for part in parts))
            for one in names:
                if _is_module(one):
                    steps = one.split(".")
                    own |= {".".join(steps[:length]) for length in range(1, len(steps) + 1)}
        elif top not in sys.stdlib_module_names:
            foreign.add(top)
    return frozenset(own), frozenset(foreign)


def _import_statements(body: list[ast.stmt]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(module, names taken from it) of every import in some statements, but for those under `if TYPE_CHECKING`."""
    for node in body:
        if isinstance(node, ast.Import):
            yield from ((alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports name whole modules here"
            yield str(node.module), tuple(alias.name for alias in node.names)
        elif isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            yield from _import_statements(node.orelse)
        else:
            for field in ("body", "orelse", "finalbody", "handlers", "cases"):
                yield from _import_statements(getattr(node, field, None) or [])


def _file(module: str) -> Path:
    path = ROOT / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def _is_module(name: str) -> bool:
    return _file(name).is_file()


@cache
def _sha256(module: str) -> str:
    return sha256_file(_file(module))


@cache
def _version(library: str) -> str | None:
    """The installed version of what a top name is imported from; None if it is not installed."""
    try:
        return importlib.metadata.version(DISTRIBUTIONS.get(library, library))
    except importlib.metadata.PackageNotFoundError:
        return None
