"""Run a step once per content: its folder is named by what went in, so a finished step is a no-op."""

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from schemas.errors import UserError
from schemas.results.artifacts import Manifest
from tasks.storage.atomic import atomic_folder, write_atomic
from tasks.storage.hashing import sha256_value
from tasks.storage.intact import Damage, find_damage, hash_folder, open_sealed, sealed
from tasks.storage.reading import read_stored
from tasks.storage.stderr import tell

MANIFEST = "manifest.json"
MADE_OF = "made_of"
"""Among the facts of a step that only puts others together: the names of their folders, where the bytes stay."""


@dataclass(frozen=True)
class Step:
    """A finished step: its folder and what it says about itself."""

    folder: Path
    manifest: Manifest

    @property
    def key(self) -> str:
        return self.manifest.key

    @property
    def facts(self) -> dict[str, Any]:
        return self.manifest.facts


@dataclass(frozen=True)
class StepPlan:
    """What a step will be, before it runs: enough to name its folder."""

    root: Path
    """State root (`.rootstock`)."""
    name: str
    inputs: Mapping[str, str]
    """Name -> key or sha256 of everything that goes in."""
    settings: Any
    """JSON value of the settings that the step reads, and no others."""
    code: str
    """Version of the code that does the work."""

    @property
    def key(self) -> str:
        return sha256_value([self.name, dict(self.inputs), self.settings, self.code])

    @property
    def folder(self) -> Path:
        return self.root / "data" / f"{self.name}-{self.key[:20]}"

    @property
    def scratch(self) -> Path:
        """Folder for what must survive a kill before the step is finished (checkpoints)."""
        return self.root / "data" / f".{self.name}-{self.key[:20]}.work"

    def finished(self, thorough: bool = True) -> Step | None:
        """The step, if it has already run to its end and its folder holds the very files it left; see `open_step`."""
        found = open_step(self.root, self.folder.name, thorough)
        return found if isinstance(found, Step) and found.key == self.key else None


def open_step(root: Path, name: str, thorough: bool = True) -> Step | Damage:
    """A finished step by the name of its folder, or what is wrong with it.

    Unless `thorough`, large files are trusted that nothing has written to since they were last read (`find_damage`).
    """
    folder = root / "data" / name
    try:
        manifest = Manifest.model_validate(open_sealed(read_stored(folder / MANIFEST)))
    except OSError as error:
        if not os.path.lexists(folder):
            return Damage(folder, "is not there")
        return Damage(folder / MANIFEST, f"cannot be read ({error.strerror})")
    except (ValidationError, ValueError):
        return Damage(folder / MANIFEST, "is not the one that was written with the step")
    if name != f"{manifest.step}-{manifest.key[:20]}":
        return Damage(folder / MANIFEST, "belongs to another step")
    damage = find_damage(folder, manifest.files, {MANIFEST}, root / "seen" / f"{name}.json", thorough)
    return damage or Step(folder, manifest)


def run_step(plan: StepPlan, work: Callable[[Path], dict[str, Any]]) -> Step:
    """Return the finished step, doing `work(folder)` first if it has not been done, or if what it left was damaged.

    `work` fills the folder and returns the facts of the manifest. Two processes that want the same step do it once.
    """
    use(plan.root)
    if done := plan.finished():
        return done
    with hold(plan.root, plan.folder.name):
        found = open_step(plan.root, plan.folder.name)
        if isinstance(found, Step):
            return found
        if os.path.lexists(plan.folder):
            tell(f"step {plan.folder.name} is damaged, so it is done again: {found}")
        with atomic_folder(plan.folder) as folder:
            facts = work(folder)
            manifest = Manifest(
                step=plan.name, key=plan.key, inputs=dict(plan.inputs), files=hash_folder(folder), facts=facts
            )
            write_atomic(folder / MANIFEST, sealed(manifest.model_dump_json()))
    done = plan.finished()
    assert done is not None
    return done


IN_USE = "in-use"
_used: dict[Path, int] = {}
"""State folder -> open lock, shared by all processes that use its steps, until they end."""


def use(root: Path) -> None:
    """From now on, until this process ends, no step of a state folder may be removed; wait while some are."""
    if root.absolute() not in _used:
        try:
            descriptor = _open_lock(root, IN_USE)
        except OSError:  # where nothing may be written, nothing can be removed either
            return
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        _used[root.absolute()] = descriptor


@contextmanager
def alone(root: Path, command: str) -> Iterator[None]:
    """Hold a state folder while no other process uses its steps; whoever begins meanwhile waits.

    Raises:
        UserError: another process uses them; `command` is what to run again then.
    """
    descriptor = _open_lock(root, IN_USE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        what = "a run is going on in this state folder, and needs steps that only it knows of"
        raise UserError(what, str(root), f"wait until it has ended, then run: {command}") from None
    finally:
        os.close(descriptor)


def _open_lock(root: Path, name: str) -> int:
    locks = root / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    return os.open(locks / name, os.O_CREAT | os.O_RDWR)


@contextmanager
def hold(root: Path, name: str, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock of that name in a state folder; the system releases it when the process dies.

    `waiting` is called once if another process holds it.
    """
    descriptor = _open_lock(root, name)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
