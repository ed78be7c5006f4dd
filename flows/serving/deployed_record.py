"""What `rootstock serve` deployed and how the server showed it then: a file in Prefect's folder, which may be damaged."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from flows.progress.terminal import say
from tasks.storage.atomic import write_atomic
from tasks.storage.reading import read_stored

RECORD = "deployed.json"
NAME = "name"


class Noted(BaseModel):
    """One value at the last start."""

    model_config = ConfigDict(extra="forbid")

    ours: Any
    """What this program set; None where it was edited at the beginning."""
    seen: Any
    """How the server showed it then; None where nobody looked."""


Record = dict[str, dict[str, Noted]]
"""Values by their names, by the deployment's id; `name` is the deployment's own."""


_RECORDS = TypeAdapter(Record)


def was_there(record: Record | None, living: Collection[str], name: str) -> bool:
    """Whether one that the server does not have was deployed there before; where that cannot be known, it was.

    If the server has nothing of what was deployed, it is another one, or its database is new.
    """
    if record is None:
        return bool(living)
    gone = [name_of(entry) for identity, entry in record.items() if identity not in living]
    return bool(living & record.keys()) and (name in gone or None in gone)


def name_of(entry: dict[str, Noted]) -> Any:
    """The deployment's name; None in a record of an older Rootstock."""
    return entry[NAME].ours if NAME in entry else None


def edited_values(before: Mapping[str, Noted], now: Mapping[str, Any]) -> list[str]:
    """What looks different from how it looked when it was noted; what nobody looked at then is no edit."""
    edited = [
        name
        for name, was in before.items()
        if was.seen != now.get(name) and not (was.seen is None and was.ours is not None)
    ]
    return edited + [name for name in now if before and name not in before]


def read_record(file: Path) -> Record | None:
    """What was noted; None if the file is damaged, so that anything may have been edited or deleted."""
    try:
        return _RECORDS.validate_json(read_stored(file))
    except FileNotFoundError:
        return {}
    except (OSError, ValidationError):
        say(
            f"{file} is damaged: all that the page shows is kept as it is, and what is not there stays away",
            flush=True,
        )
        return None


def write_record(file: Path, record: Record) -> None:
    """Note what was deployed."""
    write_atomic(file, _RECORDS.dump_json(record, indent=1))
