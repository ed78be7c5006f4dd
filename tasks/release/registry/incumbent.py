"""Which champion a run is measured against: pinned in its folder (`incumbent.json`), so that a killed run goes on alike."""

import json
import os
from pathlib import Path
from typing import Any

from schemas.errors import UserError
from tasks.release.registry import versions as registry
from tasks.storage.atomic import write_atomic
from tasks.storage.reading import parse_json, read_stored
from tasks.training.models.judged import require_judged

FILE = "incumbent.json"


def pin(state: Path, name: str, run: Path) -> None:
    """Pin the champion that the candidate must beat.

    An attempt that goes on after others were promoted must beat the newest. Only a run that is champion itself
    (killed between its promotion and its end) keeps what it was measured against.
    """
    champion = registry.champion(state, name)
    before = load(run)
    if champion is not None and champion.run_id == run.name:
        if before is None:
            raise UserError(
                "what this run was measured against cannot be read, and it is the champion itself by now",
                str(run / FILE),
                f"bring the champion before it back (rootstock rollback {name}), then run the same command again",
            )
        return
    pinned = None
    if champion is not None:
        folder = os.path.relpath(champion.model_folder, state)
        pinned = {"run": champion.run_id, "folder": folder, "weights": champion.weights_sha256}
    turn = registry.decisions(state, name) if before is None else turn_of(run)
    write_atomic(run / FILE, json.dumps({"champion": pinned, "turn": turn}))


def restore(run: Path, pinned: dict[str, Any]) -> None:
    """Pin what a finished run had been measured against."""
    write_atomic(run / FILE, json.dumps(pinned))


def turn_of(run: Path) -> int:
    """How many runs of its name were decided before this one began: which part of its suites it is scored on."""
    return int((load(run) or {}).get("turn", 0))


def model_folder(state: Path, name: str, run: Path) -> Path | None:
    """Model of the pinned champion; before a run has started, of the present one. None if there is none.

    Raises:
        UserError: the pinned model's files are not those that were promoted.
    """
    if load(run) is None:
        champion = registry.champion(state, name)
        return None if champion is None else champion.model_folder
    pinned = _read(run)
    if pinned is None:
        return None
    folder: Path = state / pinned["folder"]
    require_judged(folder, pinned["weights"])
    return folder


def began_with(run: Path) -> str | None:
    """sha256 of the weights of the champion that an unfinished run was measured against."""
    if (run / "complete.json").is_file():
        return None
    pinned = _read(run)
    return None if pinned is None else str(pinned["weights"])


def require_in_use(state: Path, name: str, run: Path) -> None:
    """Refuse to release what was measured against a champion that is not in use any more.

    Raises:
        UserError: another run of this name was promoted or rolled back while this one was going.
    """
    now, pinned = registry.champion(state, name), _read(run)
    if now is None or now.run_id == run.name or (pinned is not None and now.run_id == pinned["run"]):
        return
    raise UserError(
        f"while this run was going, {now.run_id} became champion of '{name}'",
        str(run),
        "run the same command again: nothing is trained anew, the candidate is measured against it",
    )


def _read(run: Path) -> dict[str, Any] | None:
    found = load(run)
    return None if found is None else found["champion"]


def load(run: Path) -> dict[str, Any] | None:
    """What is pinned; None before a run has started, and where the file is damaged: then it is measured anew."""
    try:
        found = parse_json(read_stored(run / FILE))
        champion = found["champion"]
        if champion is None or {"run", "folder", "weights"} <= champion.keys():
            return dict(found)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return None
