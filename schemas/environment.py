"""Variables in paths: `$NAME` is replaced where a file is opened, and put back where it would be printed."""

import os
import re
from pathlib import Path

VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_GIVEN: dict[str, str] = {}
"""Expanded beginning of a path -> how it was given. What a variable holds may be a secret (a token in a folder's name)."""


def expand(path: str) -> str:
    """Replace `$NAME` and `${NAME}` from the environment and `~` by the home folder.

    Raises:
        KeyError: a variable is not set.
    """
    replaced = VARIABLE.sub(_value, path)
    if replaced != path:
        _remember(path)
    try:
        return str(Path(replaced).expanduser())
    except RuntimeError:  # ~name of nobody: a file may be called so
        return replaced


def unexpanded(text: str) -> str:
    """The text with every path that a variable was replaced in as it was given."""
    for expanded, given in given_paths():
        text = text.replace(expanded, given)
    return text


def given_paths() -> list[tuple[str, str]]:
    """(expanded beginning of a path, as it was given), the longest first."""
    return sorted(_GIVEN.items(), key=lambda pair: -len(pair[0]))


def _value(match: re.Match[str]) -> str:
    return os.environ[match[1] or match[2]]


def _remember(path: str) -> None:
    """Keep the beginning up to the end of the last part with a variable: what a glob matches below it is no secret."""
    last = [*VARIABLE.finditer(path)][-1]
    end = path.find("/", last.end())
    given = path[: last.end() if end < 0 else end + 1]
    expanded = VARIABLE.sub(_value, given)
    if expanded.strip("./"):  # else it would be found in every path
        _GIVEN[expanded] = given
        _GIVEN[str(Path(expanded)) + ("/" if expanded.endswith("/") else "")] = given
