"""Where a state folder is served from: by one process at a time, and from one working directory.

Its runs and schedules name specifications and the state by relative paths: in another folder they would mean other files.
"""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from flows.progress.terminal import say
from flows.serving.server import running_server, server_home
from schemas.errors import UserError
from tasks.storage.atomic import write_atomic
from tasks.storage.reading import read_stored
from tasks.storage.steps import hold

PLACE = "served_from.json"
LOCK = "serve"


class Place(BaseModel):
    """What was noted at the last start."""

    model_config = ConfigDict(extra="forbid")

    folder: Path
    """The working directory."""
    state: Path
    """The state folder, as it was named there."""
    home: Path
    """Prefect's folder; elsewhere now if all of it was moved or copied."""


@contextmanager
def served_alone(state: Path, port: int) -> Iterator[Path]:
    """Hold a state folder while it is served; yield it as its runs and schedules name it.

    Raises:
        UserError: another process serves it, or its runs and schedules belong to another working directory.
    """
    home = server_home(state)

    def refuse() -> None:
        where = (running_server(home) or str(home)).removesuffix("/api")
        raise UserError(
            "this state folder is being served already", where, "open that page, or stop the other one"
        )

    home.mkdir(
        mode=0o700, parents=True, exist_ok=True
    )  # before the lock, which would make it for all to read
    with hold(home, LOCK, refuse):
        if running_server(home):  # of an older Rootstock, which took no lock
            refuse()
        yield _as_named(state, home, port)


def _as_named(state: Path, home: Path, port: int) -> Path:
    here, noted = Path.cwd(), _read(home / PLACE)
    if noted is not None:
        moved = noted.home != home.resolve()
        if not moved and noted.folder.is_dir() and not noted.folder.samefile(here):
            serve = f"rootstock serve --state {shlex.quote(str(noted.state))} --port {port}"
            raise UserError(
                "this state folder is served from another folder, and its runs and schedules name files from there",
                str(noted.folder),
                f"cd {shlex.quote(str(noted.folder))} && {serve} (if they mean this folder from now on, first remove"
                f" {shlex.quote(str(home.resolve() / PLACE))})",
            )
        if noted.state.resolve() == state.resolve():
            state = noted.state
        elif not noted.state.exists():
            link = f"ln -s {shlex.quote(str(state.resolve()))} {shlex.quote(str(noted.state))}"
            raise UserError(
                f"the runs and schedules of this state folder call it {noted.state}, and from here that leads nowhere",
                str(home / PLACE),
                f"start from the folder where it does, or: {link}",
            )
    write_atomic(home / PLACE, Place(folder=here, state=state, home=home.resolve()).model_dump_json(indent=1))
    return state


def _read(file: Path) -> Place | None:
    try:
        return Place.model_validate_json(read_stored(file))
    except FileNotFoundError:
        return None
    except (OSError, ValidationError):
        say(f"{file} cannot be read: what is served there belongs to this folder from now on", flush=True)
        return None
