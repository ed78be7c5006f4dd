"""`<state>/releases.jsonl`: every release and rollback, one line each, only ever added to. A second record of the registry."""

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from schemas.base import Schema
from schemas.errors import MachineFailed
from tasks.storage.atomic import sync_folder

FILE = "releases.jsonl"


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


def now() -> str:
    """The time of a line."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def append(state: Path, lines: Sequence[Release]) -> None:
    """Add lines, durably. A line torn by a kill before is closed first: it is passed over when read."""
    file = state / FILE
    text = "".join(line.model_dump_json(exclude_defaults=True) + "\n" for line in lines)
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


def read(state: Path) -> list[Release]:
    """All lines; none if nothing was ever released.

    Raises:
        MachineFailed: a line is not one that was written.
    """
    file = state / FILE
    try:
        texts = file.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _damaged(state, str(file), error.strerror or "it cannot be read") from None
    found = []
    for number, text in enumerate(texts, 1):
        try:
            found += [Release.model_validate(json.loads(text))] if text else []
        except (ValueError, ValidationError):
            if number == len(texts) or _torn(text):
                continue  # a kill while it was written: what it told was not done, or is told again
            raise _damaged(state, f"{file}:{number}", "the line is not as it was written") from None
    return found


def _torn(text: bytes) -> bool:
    return text.startswith(b"{") and not text.endswith(b"}")


def _damaged(state: Path, where: str, why: str) -> MachineFailed:
    from tasks.release.soundness import repair_command

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
            held["champion"] = key
            held["previous"] = next((k for k in reversed(known) if k[0] == line.instead_of), key)
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
