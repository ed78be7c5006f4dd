"""What to do about a damaged run: a command that brings the file back, found by trying what can be done here."""

import itertools
import json
import os
import shlex
from pathlib import Path

from pydantic import ValidationError

from schemas.errors import UserError
from schemas.reading.yaml_reader import read_yaml
from schemas.results.artifacts import Lineage
from schemas.spec.run import RunSpec
from tasks.release.record.run_record import (
    FILE,
    SPEC,
    RunRecord,
    find_run_damage,
    name_of,
    other_run,
    read_record,
)
from tasks.storage.atomic import remove, write_atomic
from tasks.storage.intact import NOT_OURS, Damage
from tasks.storage.reading import read_stored
from tasks.storage.stderr import tell
from tasks.storage.steps import Step, open_step


def require_intact(run: Path) -> None:
    """Read every file that a finished run left; of a run that is not finished, nothing is known.

    Raises:
        UserError: naming the first that is not the one it left.
    """
    if (damage := find_run_damage(run)) is not None:
        what = f"{run.name} is not as its run left it: {damage.file.name} {damage.what}"
        raise UserError(what, str(damage.file), how_to_mend(run, damage))


def require_own(run: Path) -> None:
    """Refuse a folder in `runs/` that is called by the name of another run than its record says.

    Raises:
        UserError: with the command that puts it right.
    """
    if (other := other_run(run)) is not None:
        what = f"the folder {name_of(run)} is of another run: its record is that of {other}"
        raise UserError(what, str(run / FILE), _how_to_put_back(run, other))


def _how_to_put_back(run: Path, other: str) -> str:
    """The command that gives a folder the name of its run, or removes it if it only is a copy."""
    right, aside = run.with_name(other), run.parents[1]
    moved = f"mv {shlex.quote(str(run))} {shlex.quote(str(right))}"
    if not os.path.lexists(right):
        return f"run: {moved}"
    if other_run(right) is None and find_run_damage(right) is None and read_record(right) is not None:
        return f"it is a copy, or a link. run: rm -r {shlex.quote(str(run))}"
    kept = next(
        place for n in itertools.count(1) if not os.path.lexists(place := aside / f"{other}.moved-{n}")
    )
    commands = f"mv {shlex.quote(str(right))} {shlex.quote(str(kept))} && {moved}"
    if other_run(right) is None:  # damaged, or not finished: this is the better one
        return f"run: {commands}"
    home = run.with_name(str(other_run(right)))
    if home != run and os.path.lexists(home):
        return f"run: {commands} (what was called {other} is kept as {kept})"
    return f"run: {commands} && mv {shlex.quote(str(kept))} {shlex.quote(str(home))}"


def how_to_mend(run: Path, damage: Damage | None = None) -> str:
    """A command that mends a run's folder; if nothing here can, that a backup is needed."""
    state = run.parents[1]
    if (other := other_run(run)) is not None:
        return _how_to_put_back(run, other)
    damage = damage or find_run_damage(run)
    if damage is not None and damage.what == NOT_OURS:
        return f"run: rm -r {shlex.quote(str(damage.file))}"
    spec = _specification(run)
    elsewhere = "" if str(state) == ".rootstock" else f" --state {shlex.quote(str(state))}"
    if spec is None:
        return f"run the specification again (rootstock run SPEC{elsewhere}): what is damaged in it is written anew"
    if _names_this_run(state, spec, run.name):
        return f"run: rootstock run {shlex.quote(str(run / 'spec.yaml'))}{elsewhere} (what is damaged is written anew)"
    if damage is not None and (copy := _copy_in_step(run, damage.file)) is not None:
        target = shlex.quote(str(damage.file))
        emptied = f"rm -r {target} && " if damage.file.is_dir() else ""
        return f"run: {emptied}cp {shlex.quote(str(copy))} {target}"
    return (
        "restore it from a backup of the state folder: the run cannot be done again, because its data, its base or this"
        " program have changed since; or run the specification again, which makes another run"
    )


def _specification(run: Path) -> RunSpec | None:
    """What the run was asked. A damaged file is written anew from the run's record, if that still is what it was."""
    file, record = run / SPEC, read_record(run)
    try:
        if isinstance(record, RunRecord) and record.spec and not _says(file, record.spec):
            remove(file)
            write_atomic(file, record.spec)
            tell(f"{str(file)!r} was damaged: written anew from {FILE}")
        return RunSpec.model_validate_json(json.dumps(read_yaml(file).value), strict=True)
    except (OSError, UserError, ValidationError, ValueError):
        return None


def _says(file: Path, text: str) -> bool:
    try:
        return read_stored(file) == text.encode()
    except OSError:
        return False


def _names_this_run(state: Path, spec: RunSpec, name: str) -> bool:
    """Whether the same command finds this very run again."""
    from tasks.release.record.run_name import name_run  # with what reads data: every verb would wait for it

    try:
        return name_run(state, spec) == name
    except (OSError, UserError):
        return False


def _copy_in_step(run: Path, file: Path) -> Path | None:
    """The file of a run's model as the training step left it, if that step is still there, unharmed."""
    try:
        lineage = Lineage.model_validate_json(read_stored(run / "lineage.json"))
        step = open_step(run.parents[1], f"train-{lineage.steps['train'][:20]}")
    except (OSError, ValueError, KeyError):
        return None
    copy = step.folder / file.relative_to(run) if isinstance(step, Step) else None
    return copy if copy is not None and copy.is_file() and file.name != "README.md" else None
