"""The note that a lasting server leaves in its folder, and what of it is believed: the folder may be somebody else's."""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tasks.storage.atomic import write_atomic

NOTE = "server.json"


def write_note(home: Path, pid: int, address: str, password_file: Path | None = None) -> None:
    """Tell other commands of this state folder where its server is; the password itself is never written."""
    told = {"pid": pid, "address": address, "boot": boot_id(), "started": started(pid)}
    if password_file is not None:
        told["password_file"] = str(password_file)
    write_atomic(home / NOTE, json.dumps(told))


def remove_note(home: Path, address: str) -> None:
    """Take our note away; one of another server stays."""
    with suppress(OSError, ValueError, KeyError, TypeError):  # none, or not of ours
        if json.loads((home / NOTE).read_text())["address"] == address:
            (home / NOTE).unlink()


def read_note(home: Path) -> dict[str, Any] | None:
    """The note, if it is of a server of ours that runs now; anything else is nothing.

    What it says is checked against the process: of this user, of this start of the machine, begun at that moment, and
    running our server at that very port.
    """
    try:
        if not (home / NOTE).is_file():
            return None
        note = json.loads((home / NOTE).read_text())
        pid, address = note["pid"], note["address"]
        if type(pid) is not int or pid <= 0 or not isinstance(address, str):
            return None
        port = loopback_port(address)
        if port is None or note["boot"] != boot_id() or note["started"] != started(pid):
            return None
        return note if _is_our_server(pid, port) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None  # none, or killed before it could take its note away


def loopback_port(address: str) -> int | None:
    """Port of an address as we write it, `http://127.0.0.1:4200/api`; None for any other."""
    parts = urlsplit(address)
    return parts.port if parts.port and address == f"http://127.0.0.1:{parts.port}/api" else None


def boot_id() -> str:
    """Which start of the machine this is; process ids begin anew with each."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def started(pid: int) -> int:
    """When a process was started, in ticks since the machine was."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    return int(stat.rpartition(")")[2].split()[19])


def _is_our_server(pid: int, port: int) -> bool:
    place = Path(f"/proc/{pid}")
    words = (place / "cmdline").read_bytes().decode(errors="replace").split("\0")
    return place.stat().st_uid == os.getuid() and words[-4:-1] == [
        "-m",
        "flows.serving.guarded_server",
        str(port),
    ]
