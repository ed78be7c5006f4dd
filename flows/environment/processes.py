"""Which process a flow run is in, told beyond doubt: a number is given out again, so its start and the boot belong to it."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from flows.environment.server_note import boot_id, started
from tasks.storage.atomic import write_atomic
from tasks.storage.reading import parse_json, read_stored


@dataclass(frozen=True)
class Process:
    """A process of this machine."""

    pid: int
    started: int
    """Clock ticks after the boot."""
    boot: str

    @classmethod
    def of(cls, pid: int) -> "Process | None":
        """The process that has this number now; one that has ended and is only not yet buried is none."""
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            return None if fields[0] in "ZX" else cls(pid, started(pid), boot_id())
        except OSError:
            return None


def note_process(home: Path, run: str, pid: int | None = None) -> None:
    """Write down that this process, or that of `pid`, is at a flow run."""
    if (process := Process.of(pid or os.getpid())) is not None:
        write_atomic(_file(home, run), json.dumps(asdict(process)))


def process_of(home: Path, run: str) -> Process | None:
    """The process that is at a flow run, if it is still there."""
    if (noted := noted_process(home, run)) is None:
        return None
    return noted if Process.of(noted.pid) == noted else None


def noted_process(home: Path, run: str) -> Process | None:
    """The process that was at a flow run, whatever became of it; None where nobody wrote it down."""
    try:
        return Process(**parse_json(read_stored(_file(home, run))))
    except (OSError, ValueError, TypeError):
        return None


def forget_process(home: Path, run: str) -> None:
    """The flow run has ended."""
    _file(home, run).unlink(missing_ok=True)


def _file(home: Path, run: str) -> Path:
    folder = home / "running"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{run}.json"
