"""Whether `registry.db` can be relied on: there, whole, and just what the record of releases says.

It is looked at before each use, without MLflow: SQLite would take an empty file for a new database, and MLflow would fill it.
"""

import os
import shlex
import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from schemas.errors import MachineFailed
from tasks.release.registry.releases import (
    FILE,
    SEALED,
    Release,
    Version,
    intent_file,
    read,
    repair_command,
    versions,
)

MAGIC = b"SQLite format 3\0"
BUSY_SECONDS = 30
ROLLING_BACK = "rolling-back"
"""Alias of the version being rolled back from, so that a rollback killed half-way is finished, not reversed."""


def require_sound(state: Path) -> bool:
    """Whether there is a registry; none is there before the first release.

    Raises:
        MachineFailed: it is damaged, or gone although models were released; or the record of releases is.
    """
    if (damage := find_damage(state)) is not None:
        file = state / "registry.db"
        if damage.of_record:
            fix = f"write it anew from the registry: {repair_command(state)}"
            raise MachineFailed(f"the record of releases {damage.what}", str(state / FILE), fix)
        raise MachineFailed(f"the registry of models {damage.what}", str(file), _fix(state, file))
    return (state / "registry.db").exists()


def _fix(state: Path, file: Path) -> str:
    if file.is_file() and not os.access(file, os.R_OK | os.W_OK):
        return f"run: chmod u+rw {shlex.quote(str(file))}"
    return f"rebuild it from the record of releases: {repair_command(state)}"


class Damaged(NamedTuple):
    """What is wrong, in words that follow "the registry" or "the record of releases"."""

    what: str
    of_record: bool = False
    """The registry is as it was written, and the record is not."""


def find_damage(state: Path, lines: Sequence[Release] | None = None) -> Damaged | None:
    """What is wrong with the registry, or with the record beside it; `lines` of the record, read where not given."""
    while True:
        known = read(state) if lines is None else lines
        damage = _find(state, known)
        if damage is None or lines is not None or read(state) == known:
            return damage
        # a release came between the two readings: look again


def _find(state: Path, lines: Sequence[Release]) -> Damaged | None:
    file = state / "registry.db"
    if not os.path.lexists(file):
        names = ", ".join(sorted({line.name for line in lines}))
        return Damaged(f"is gone, although {FILE} names {names}") if names else None
    if (own := find_own_damage(state)) is not None:
        return Damaged(own)
    if not os.path.lexists(state / FILE):
        return None  # it begins with the next release
    return _compare(state, lines, _holdings(file))


def find_own_damage(state: Path) -> str | None:
    """What is wrong with the registry by itself; it is there."""
    file = state / "registry.db"
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
        with closing(_open(file)) as database:
            ((told, *_), *_more) = database.execute("PRAGMA integrity_check(1)").fetchall()
        if told == "ok":
            _holdings(file)
    except sqlite3.Error as error:
        return f"is damaged: {error}"
    except (ValueError, TypeError, UnicodeError):
        return "is damaged: it holds what nobody wrote"
    return None if told == "ok" else f"is damaged: {' '.join(str(told).split())}"


def rolling_back(state: Path, name: str) -> bool:
    """Whether a rollback of a name was begun and is not finished."""
    return require_sound(state) and ROLLING_BACK in _holdings(state / "registry.db")[name].aliases


@dataclass
class Held:
    """What the registry holds of a name."""

    versions: dict[int, dict[str, str]] = field(default_factory=dict)
    """Number -> its tags, and its `source`."""
    aliases: dict[str, int] = field(default_factory=dict)
    seal: str | None = None
    """Of the last line that was in the record when this was written."""


def _open(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{file.resolve().as_uri()}?mode=rw", uri=True, timeout=BUSY_SECONDS)


def _holdings(file: Path) -> dict[str, Held]:
    found: dict[str, Held] = defaultdict(Held)
    with closing(_open(file)) as database:
        database.execute("BEGIN")  # all of one moment
        for name, version, source in database.execute(
            "SELECT name, version, source FROM model_versions WHERE current_stage != 'Deleted_Internal'"
        ):
            found[name].versions[int(version)] = {"source": str(source)}
        for name, version, key, value in database.execute(
            "SELECT name, version, key, value FROM model_version_tags"
        ):
            found[name].versions.get(int(version), {})[key] = value
        for name, alias, version in database.execute(
            "SELECT a.name, a.alias, a.version FROM registered_model_aliases a"
            " JOIN registered_models m USING (name, workspace)"
        ):
            found[name].aliases[alias] = int(version)
        for name, value in database.execute(
            "SELECT name, value FROM registered_model_tags WHERE key = ?", (SEALED,)
        ):
            found[name].seal = value
    return found


def _compare(state: Path, lines: Sequence[Release], holdings: dict[str, Held]) -> Damaged | None:
    """The first difference between registry and record, and which of the two is not what was written.

    The chain of the record is whole. If it has the line that the registry was last written with, the registry has changed
    since; if it lacks that line, its end is lost.
    """
    recorded = versions(lines)
    for name in sorted({*recorded, *(name for name, held in holdings.items() if held.versions)}):
        known, held = recorded.get(name, []), holdings.get(name, Held())
        if (told := _difference(name, known, held)) is None:
            continue
        if ROLLING_BACK in held.aliases or os.path.lexists(intent_file(state, name)):
            continue  # a release or rollback is going on, or was killed: whoever moves anything finishes it first
        seals = {line.seal for line in lines if line.name == name}
        ahead = held.seal not in seals if held.seal else len(held.versions) > len(known)
        if ahead:
            return Damaged(f"has lost its last lines: in the registry {told}", of_record=True)
        return Damaged(f"is not the one that was written: in it {told}")
    return None


def _difference(name: str, known: Sequence[Version], held: Held) -> str | None:
    runs = {version.get("run_id") for version in held.versions.values()}
    if lost := [version.run for version in known if version.run not in runs]:
        return f"{lost[0]} of '{name}' is missing"
    for number in range(1, 1 + max(len(known), *held.versions, 0)):
        found = held.versions.get(number, {})
        wanted = known[number - 1].tags if number <= len(known) else {}
        if not wanted:
            return f"there is version {number} of '{name}', {found.get('run_id', 'of no run')}, which {FILE} lacks"
        wanted = {**wanted, "source": f"runs/{wanted['run_id']}/model"}
        for key in ("run_id", "source", "weights_sha256", "decision_sha256", "verdict", "forced"):
            if found.get(key, "") != wanted.get(key, ""):
                return f"version {number} of '{name}' has another {key} than {FILE} says"
    for alias in ("champion", "challenger", "previous"):
        told = next((number for number, v in enumerate(known, 1) if alias in v.aliases), None)
        if (now := held.aliases.get(alias)) != told:
            said = f"version {now}" if now else "none"
            return f"the {alias} of '{name}' is {said}, not {f'version {told}' if told else 'none'} as {FILE} says"
    return None
