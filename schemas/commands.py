"""Commands that a remedy suggests: pasted into a shell, they do what is meant and nothing else."""

import re
import shlex

from schemas.environment import VARIABLE, given_paths
from schemas.visible import visible


def command(*words: object) -> str:
    """A command line whose every word is one argument, whatever stands in it."""
    return " ".join(quoted(str(word)) for word in words)


def quoted(word: str) -> str:
    """One argument of a POSIX shell; one with control characters in the form of bash and zsh, `$'...'`.

    A path keeps the variables that it was given with: what they hold may be a secret.
    """
    for expanded, given in given_paths():
        if word.startswith(expanded):
            return _with_variables(given) + (quoted(word[len(expanded) :]) if word != expanded else "")
    if visible(word) == word:
        return shlex.quote(word)
    raw = word.replace("\\", "\\\\").replace("'", "\\'")
    return f"$'{_bytes(visible(raw))}'"


def _with_variables(given: str) -> str:
    parts = VARIABLE.sub("\0\\g<0>\0", given).split("\0")
    return "".join(f'"{part}"' if VARIABLE.fullmatch(part) else part and shlex.quote(part) for part in parts)


def _bytes(text: str) -> str:
    """Bytes that were no UTF-8 (`\\udcff`) as bytes."""
    return re.sub(r"\\udc([89a-f][0-9a-f])", r"\\x\1", text)
