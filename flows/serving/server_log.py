"""What the log of a server that did not start says of the reason, and what helps."""

import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path

ENDS = (re.compile(r"ERROR: +\[Errno"), re.compile(r"[\w.]+(?:Error|Exception): "))
"""How a line begins that tells why: uvicorn's own, after which a shutdown may fail as well, or the last of a traceback."""
DATABASE = "PREFECT_SERVER_DATABASE_CONNECTION_URL"
PLAIN = "run the stages as plain functions: rootstock run --no-prefect"


def reason(log: str) -> str:
    """The last line of a log that tells a reason, without the names of exceptions; empty if there is none.

    What was given is left out: it may be a secret.
    """
    lines = log.splitlines()
    found = [at for begins in reversed(ENDS) for at, line in enumerate(lines) if begins.match(line)]
    if not found:
        return ""
    last = found[-1]
    told = re.sub(r"^[\w.]+: +(?:\([\w.]+\) )?", "", lines[last])
    if "validation error" in told:  # the setting and what is wrong with it are in the next two
        told = " ".join([told.rpartition(" for ")[2], *(line.strip() for line in lines[last + 1 : last + 3])])
    return told.partition(" [type=")[0].strip()


def fix(why: str, home: Path) -> str:
    """What helps against a reason."""
    found = next((help for words, help in FIXES.items() if re.search(words, why)), None)
    return found(why, home) if found else f"{_read(home)}, or {PLAIN}"


def _free_port(_why: str, _home: Path) -> str:
    return f"end what listens there, or choose another --port; or {PLAIN}"


def _mend_setting(why: str, home: Path) -> str:
    """A validation error names its setting without the prefix of the group that it is in."""
    ending = f"_{why.split(' ')[1].upper().replace('.', '_')}"
    given = sorted(one for one in os.environ if one.startswith("PREFECT_"))
    wrong = [one for one in given if one.endswith(ending)] or given
    return f"unset {' '.join(wrong)}; or {PLAIN}" if wrong else f"{_read(home)}, or {PLAIN}"


def _mend_database(_why: str, home: Path) -> str:
    if os.environ.get(DATABASE):
        return f"correct or unset {DATABASE}; or {PLAIN}"
    if not (home / "prefect.db").is_file():
        return f"make it writable: {home}; or {PLAIN}"
    file = shlex.quote(str(home / "prefect.db"))
    return f"mv {file} {file}.damaged (the history on the page is lost, no model and no verdict); or {PLAIN}"


def _read(home: Path) -> str:
    return f"see the end of {home / 'server.log'}"


FIXES: dict[str, Callable[[str, Path], str]] = {
    r"address already in use|attempting to bind": _free_port,
    r"^\w+Settings ": _mend_setting,
    r"database|no such table|disk image|Can't locate revision": _mend_database,
}
