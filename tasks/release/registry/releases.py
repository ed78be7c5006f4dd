"""`<state>/releases.jsonl`: every release and rollback, one line each, only ever added to. A second record of the registry.

Each line has a seal: a hash over itself and the seal of the line before. A changed, lost or inserted line breaks the chain;
that the last ones are lost, the registry knows, which keeps the seal of each name's last line.
"""

import os
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from schemas.base import Schema
from schemas.errors import MachineFailed
from schemas.paths.state_folder import require_state
from tasks.storage.atomic import sync_folder
from tasks.storage.hashing import sha256_value
from tasks.storage.reading import parse_json, read_stored
from tasks.storage.steps import hold

FILE = "releases.jsonl"
SEALED = "record"
"""Tag of a name in the registry: the seal of its last line."""


class Release(Schema):
    """One line: a run was registered (and put in use, or not), or the champion before it was put in use again."""

    when: str
    """UTC, ISO 8601."""
    name: str
    run: str
    weights: str
    decision: str = ""
    verdict: str = ""
    alias: Literal["champion", "challenger", "rolled-back-to", "previous"] | None = None
    """`rolled-back-to`: champion again, in place of `instead_of`. `previous`: of a record made from the registry."""
    instead_of: str = ""
    """Run that a rollback takes out of use."""
    forced: str = ""
    """Who put it in use against its decision, and why."""
    seal: str = ""
    """sha256 over the seal of the line before and all of the above; given when it is written."""


class Version(Schema):
    """A version as the record has it; its number is its place."""

    first: Release
    verdict: str
    decision: str
    forced: str
    aliases: tuple[str, ...] = ()

    @property
    def run(self) -> str:
        return self.first.run

    @property
    def tags(self) -> dict[str, str]:
        """What the registry keeps of it."""
        tags = {
            "run_id": self.run, "weights_sha256": self.first.weights, "decision_sha256": self.decision,
            "verdict": self.verdict,
        }  # fmt: skip
        return tags | ({"forced": self.forced} if self.forced else {})


def intent_file(state: Path, name: str) -> Path:
    """While it is there, a release of this name is not finished: the registry may be ahead of the record."""
    return state / "increments" / f"{name}.intent.json"


def now() -> str:
    """The time of a line."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def append(state: Path, lines: Sequence[Release]) -> list[Release]:
    """Add lines, durably; return them with their seals. A line torn by a kill before is closed first: reading passes over it.

    Raises:
        MachineFailed: a line that is there is not as it was written.
    """
    file = state / FILE
    with hold(state, "releases"):
        before = read(state)
        added = chained(lines, before[-1].seal if before else "")
        text = "".join(line.model_dump_json(exclude_defaults=True) + "\n" for line in added)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                text = "\n" + text
            os.write(descriptor, text.encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        sync_folder(state)
    return added


def chained(lines: Sequence[Release], before: str = "") -> list[Release]:
    """The lines with their seals; `before` is the seal that they follow."""
    found = []
    for line in lines:
        before = _seal(line, before)
        found.append(line.model_copy(update={"seal": before}))
    return found


def _seal(line: Release, before: str) -> str:
    return sha256_value([before, line.model_dump(exclude={"seal"}, exclude_defaults=True)])


def last_seals(lines: Sequence[Release]) -> dict[str, str]:
    """Name -> seal of its last line."""
    return {line.name: line.seal for line in lines}


def read(state: Path) -> list[Release]:
    """All lines; none if nothing was ever released.

    Raises:
        MachineFailed: a line is not one that was written, or one is missing before it.
        UserError: the state folder is a file.
    """
    file = state / FILE
    require_state(state)
    try:
        texts = read_stored(file).split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _damaged(state, str(file), error.strerror or "it cannot be read") from None
    found: list[Release] = []
    for number, text in enumerate(texts, 1):
        try:
            line = Release.model_validate(parse_json(text)) if text else None
        except (ValueError, ValidationError):
            if number == len(texts) or _torn(text):
                continue  # a kill while it was written: what it told was not done, or is told again
            raise _damaged(state, f"{file}:{number}", "the line is not as it was written") from None
        if line is not None and line.seal != _seal(line, found[-1].seal if found else ""):
            why = "the line is not as it was written, or one before it is missing"
            raise _damaged(state, f"{file}:{number}", why)
        found += [line] if line is not None else []
    return found


def _torn(text: bytes) -> bool:
    return text.startswith(b"{") and not text.endswith(b"}")


def _damaged(state: Path, where: str, why: str) -> MachineFailed:

    what = f"the record of releases is damaged: {why}"
    return MachineFailed(what, where, f"write it anew from the registry: {repair_command(state)}")


def versions(lines: Sequence[Release]) -> dict[str, list[Version]]:
    """Name -> its versions in their order, with the aliases that they end up with. A line that is there twice counts once."""
    found: dict[str, dict[tuple[str, str], Version]] = {}
    aliases: dict[str, dict[str, tuple[str, str]]] = {}
    for line in lines:
        key, known, held = (
            (line.run, line.weights), found.setdefault(line.name, {}), aliases.setdefault(line.name, {}),
        )  # fmt: skip
        if line.alias == "rolled-back-to":
            replaced, held["champion"] = held.get("champion", key), key
            if replaced[0] != line.instead_of:
                replaced = next((k for k in reversed(known) if k[0] == line.instead_of), key)
            held["previous"] = replaced
            continue
        before = known.get(key)
        known[key] = Version(
            first=before.first if before else line, verdict=line.verdict, decision=line.decision,
            forced=line.forced or (before.forced if before else ""),
        )  # fmt: skip
        _move(held, line.alias, key)
    return {
        name: [
            version.model_copy(
                update={"aliases": tuple(a for a, held in sorted(aliases[name].items()) if held == key)}
            )
            for key, version in known.items()
        ]
        for name, known in found.items()
    }


def _move(held: dict[str, tuple[str, str]], alias: str | None, key: tuple[str, str]) -> None:
    """As `registry.set_champion` and `set_challenger` do."""
    if alias == "champion":
        if held.get("champion") not in (None, key):
            held["previous"] = held["champion"]
        held["champion"] = key
        if held.get("challenger") == key:
            del held["challenger"]
    elif (alias == "challenger" and held.get("champion") != key) or alias == "previous":
        held[str(alias)] = key


def repair_command(state: Path) -> str:
    """The command that rebuilds the registry of a state folder."""
    elsewhere = "" if str(state) == ".rootstock" else f" --state {shlex.quote(str(state))}"
    return f"rootstock doctor --repair{elsewhere}"
