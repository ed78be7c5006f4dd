"""`rootstock doctor --repair`: rebuild a damaged or lost registry from the record of releases, or the record from the registry."""

import os
import sqlite3
from collections.abc import Callable
from contextlib import ExitStack, closing
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from schemas.errors import MachineFailed, UserError
from schemas.results.artifacts import Decision
from tasks.release.record.run_record import RunRecord, find_run_damage, read_record
from tasks.release.registry import versions as registry
from tasks.release.registry.mlflow_store import open_registry
from tasks.release.registry.releases import (
    FILE,
    SEALED,
    Release,
    Version,
    append,
    chained,
    last_seals,
    read,
    versions,
)
from tasks.release.registry.soundness import find_damage, find_own_damage
from tasks.storage.hashing import sha256_file
from tasks.storage.reading import read_stored
from tasks.storage.steps import hold

Note = Callable[[str], None]


def repair(state: Path, note: Note, really: bool) -> bool:
    """Say what is wrong with the registry and mend it, if `really`; whether there was anything to mend.

    Whatever is damaged is kept beside, under another name.

    Raises:
        MachineFailed: neither the registry nor the record nor a run says what was released.
    """
    if not state.is_dir():
        note(f"{state} is not there: nothing to repair")
        return False
    recorded, told = _record(state)
    damage = find_damage(state) if told is None else None
    if told is None and damage is None:
        note("the registry and the record of releases are in order: nothing to repair")
        return False
    if damage is not None and damage.of_record:
        told, recorded = damage.what, []
    wrong = None if damage is None else damage.what
    if told is not None:
        note(f"the record of releases is damaged: {told}")
        wrong = find_own_damage(state) if (state / "registry.db").exists() else "is gone too"
        registered = registry.as_record(state) if wrong is None else []
        wrong = wrong or _contradiction(state, registered)
        if wrong is None:
            note(f"will write {state / FILE} anew from the registry: {_summary(registered)}")
            if really:
                _aside(state / FILE, note)
                registry.write_lines(state, registered)
            return True
    note(f"the registry {wrong}")
    if not recorded:
        recorded = _of_runs(state)
        note("no record of releases: the folders of finished runs stand in for it; a rollback is not in them")
    if not recorded:
        fix = "restore it from a backup of the state folder; if nothing was ever released, remove it"
        raise MachineFailed(
            "nothing says what was released: there is no run that passed", str(state / "registry.db"), fix
        )
    note(f"will rebuild {state / 'registry.db'}: {_summary(recorded)}")
    if really:
        _rebuild(state, recorded, note, write_record=told is not None or not (state / FILE).exists())
    return True


def _record(state: Path) -> tuple[list[Release], str | None]:
    try:
        return read(state), None
    except MachineFailed as error:
        return [], f"{error.what} ({error.where})"


def _summary(lines: list[Release]) -> str:
    def told(version: Version, number: int) -> str:
        return f"version {number} {version.run}" + (
            f" ({', '.join(version.aliases)})" if version.aliases else ""
        )

    return "; ".join(
        f"{name}: {', '.join(told(version, number) for number, version in enumerate(known, 1))}"
        for name, known in sorted(versions(lines).items())
    )


def _contradiction(state: Path, registered: list[Release]) -> str | None:
    """The first run whose own folder says something else than the registry: then the registry is no witness either."""
    from tasks.release.record.run_record import weights_of

    for line in {(line.name, line.run): line for line in registered}.values():
        run = state / "runs" / line.run
        record = read_record(run)
        if not isinstance(record, RunRecord) or not record.decision or find_run_damage(run, thorough=False):
            continue
        if record.decision != line.decision or weights_of(state, line.run) != line.weights:
            return f"is not the one that was written: {run} says something else of '{line.name}'"
    return None


def _of_runs(state: Path) -> list[Release]:
    """What the folders of finished runs tell, in the order of their decisions."""
    from schemas.reading.yaml_reader import read_yaml
    from tasks.release.promotion.promotion import forced_of

    found: list[tuple[float, Release]] = []
    for file in sorted((state / "runs").glob("*/decision.json")):
        run = file.parent
        try:
            decision = Decision.model_validate_json(read_stored(file))
            spec = read_yaml(run / "spec.yaml").value
            forced = forced_of(run)
        except (OSError, ValidationError, UserError):
            continue
        if not (run / "complete.json").is_file():
            continue
        waits = (spec.get("promotion") or {}).get("approval") == "manual"
        alias = "champion" if forced else None
        if decision.verdict == "promote":
            alias = "challenger" if waits else "champion"
        changed = file.stat().st_mtime
        line = Release(
            when=datetime.fromtimestamp(changed).astimezone().isoformat(), name=str(spec["name"]), run=run.name,
            weights=decision.bindings.weights, decision=sha256_file(file), verdict=decision.verdict,
            alias=alias, forced=f"{forced.who}: {forced.why}" if forced else "",
        )  # fmt: skip
        found.append((changed, line))
    return [line for _, line in sorted(found, key=lambda one: one[0])]


def _rebuild(state: Path, lines: list[Release], note: Note, write_record: bool) -> None:
    """Make the registry under another name, then put the damaged one aside and this in its place."""
    if write_record:
        lines = chained(lines)
    seals = last_seals(lines)
    made = state / f".registry.db.{os.getpid()}"
    made.unlink(missing_ok=True)
    with ExitStack() as held:
        for name in sorted({line.name for line in lines}):
            held.enter_context(hold(state, f"release-{name}", lambda: note("waiting for a release to end")))
        client = open_registry(made.resolve())
        with closing(sqlite3.connect(made)) as database:
            for name, known in versions(lines).items():
                client.create_registered_model(name, tags={SEALED: seals[name]})
                for number, version in enumerate(known, 1):
                    client.create_model_version(name, source=f"runs/{version.run}/model", tags=version.tags)
                    for alias in version.aliases:
                        client.set_registered_model_alias(name, alias, str(number))
                    when = int(datetime.fromisoformat(version.first.when).timestamp() * 1000)
                    database.execute(
                        "UPDATE model_versions SET creation_time = ? WHERE name = ? AND version = ?",
                        (when, name, number),
                    )
                    database.commit()
        for file in (state / f"registry.db{ending}" for ending in ("", "-wal", "-shm", "-journal")):
            _aside(file, note)
        made.rename(state / "registry.db")
        if write_record:
            _aside(state / FILE, note)
            append(state, lines)
    note("done: the registry is rebuilt")


def _aside(file: Path, note: Note) -> None:
    """Keep what is damaged under a name that is free."""
    if not os.path.lexists(file):
        return
    number = 1
    while os.path.lexists(kept := file.with_name(f"{file.name}.damaged-{number}")):
        number += 1
    file.rename(kept)
    note(f"kept the damaged one as {kept}")
