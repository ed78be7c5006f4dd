"""Whether `registry.db` can be relied on: there, whole, and no less than the record of releases says.

It is looked at before each use, without MLflow: SQLite would take an empty file for a new database, and MLflow would fill it.
"""

import os
import shlex
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from schemas.errors import MachineFailed
from tasks.release.releases import FILE, Release, read, versions

MAGIC = b"SQLite format 3\0"
BUSY_SECONDS = 30


def require_sound(state: Path) -> bool:
    """Whether there is a registry; none is there before the first release.

    Raises:
        MachineFailed: it is damaged, or gone although models were released.
    """
    if (damage := find_damage(state)) is not None:
        file = state / "registry.db"
        fix = _fix(state, file)
        raise MachineFailed(f"the registry of models {damage}", str(file), fix)
    return (state / "registry.db").exists()


def _fix(state: Path, file: Path) -> str:
    if file.is_file() and not os.access(file, os.R_OK | os.W_OK):
        return f"run: chmod u+rw {shlex.quote(str(file))}"
    return f"rebuild it from the record of releases: {repair_command(state)}"


def repair_command(state: Path) -> str:
    """The command that rebuilds the registry of a state folder."""
    elsewhere = "" if str(state) == ".rootstock" else f" --state {shlex.quote(str(state))}"
    return f"rootstock doctor --repair{elsewhere}"


def find_damage(state: Path, lines: Sequence[Release] | None = None) -> str | None:
    """What is wrong with the registry, in words that follow its name; `lines` of the record, read where not given."""
    file = state / "registry.db"
    recorded = versions(read(state) if lines is None else lines)
    if not os.path.lexists(file):
        return f"is gone, although {FILE} names {', '.join(sorted(recorded))}" if recorded else None
    if file.is_symlink() and not file.exists():
        return "is a link to nothing"
    if not file.is_file():
        return "is a folder" if file.is_dir() else "is no regular file"
    if not os.access(file, os.R_OK | os.W_OK):
        return "may not be read and written"
    try:
        with file.open("rb") as opened:
            head = opened.read(len(MAGIC))
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if head != MAGIC:
        return "is damaged: it is empty" if not head else "is damaged: it is no SQLite database"
    try:
        return _look_inside(file, {n: {v.run: v.aliases for v in known} for n, known in recorded.items()})
    except sqlite3.Error as error:
        return f"is damaged: {error}"
    except (ValueError, TypeError, UnicodeError):
        return "is damaged: it holds what nobody wrote"


def _look_inside(file: Path, recorded: dict[str, dict[str, tuple[str, ...]]]) -> str | None:
    address = f"{file.resolve().as_uri()}?mode=rw"
    with closing(sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS)) as database:
        ((told, *_), *_more) = database.execute("PRAGMA integrity_check(1)").fetchall()
        if told != "ok":
            return f"is damaged: {' '.join(str(told).split())}"
        runs = set(database.execute(
            "SELECT t.name, t.value FROM model_version_tags t JOIN model_versions v USING (name, version, workspace)"
            " WHERE t.key = 'run_id'"
        ))  # fmt: skip
        champions = {name for (name,) in database.execute(
            "SELECT a.name FROM registered_model_aliases a JOIN model_versions v USING (name, version, workspace)"
            " JOIN registered_models m USING (name, workspace) WHERE a.alias = 'champion'"
        )}  # fmt: skip
    for name, known in recorded.items():
        if lost := [run for run in known if (name, run) not in runs]:
            return f"is not the one that was written: it lacks {lost[0]} of '{name}'"
        if name not in champions and any("champion" in aliases for aliases in known.values()):
            return f"is not the one that was written: '{name}' has no champion in it"
    return None
