"""Run a step once per content: its folder is named by what went in, so a finished step is a no-op."""

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from schemas.artifacts import FileHash, Manifest
from schemas.errors import UserError
from tasks.storage.atomic import atomic_folder, write_atomic
from tasks.storage.hashing import sha256_file, sha256_value

MANIFEST = "manifest.json"


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

    def finished(self) -> Step | None:
        """The step, if it has already run to its end and every file it left is still there in its size."""
        try:
            step = Step(self.folder, Manifest.model_validate_json((self.folder / MANIFEST).read_bytes()))
            intact = all((self.folder / f.path).stat().st_size == f.bytes for f in step.manifest.files)
        except (OSError, ValidationError):
            return None
        return step if intact else None


def run_step(plan: StepPlan, work: Callable[[Path], dict[str, Any]]) -> Step:
    """Return the finished step, doing `work(folder)` first if it has not been done.

    `work` fills the folder and returns the facts of the manifest. Two processes that want the same step do it once.
    """
    use(plan.root)
    if done := plan.finished():
        return done
    with hold(plan.root, plan.folder.name):
        if done := plan.finished():
            return done
        with atomic_folder(plan.folder) as folder:
            facts = work(folder)
            files = tuple(
                FileHash(
                    path=str(path.relative_to(folder)), sha256=sha256_file(path), bytes=path.stat().st_size
                )
                for path in sorted(folder.rglob("*"))
                if path.is_file()
            )
            manifest = Manifest(
                step=plan.name, key=plan.key, inputs=dict(plan.inputs), files=files, facts=facts
            )
            write_atomic(folder / MANIFEST, manifest.model_dump_json(indent=1))
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
