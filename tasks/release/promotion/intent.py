"""What a release is going to do, written down before it is done, so that a kill in between can be mended."""

import os
import shlex
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from schemas.base import Schema
from schemas.errors import UserError
from schemas.results.artifacts import Verdict
from schemas.results.watermark import IncrementRecord
from schemas.spec.promotion import Forced
from tasks.release.increments.watermark import load_watermark, save_watermark, with_record, write_scores
from tasks.release.record.mend import require_own
from tasks.release.record.run_record import FORCED, close_run
from tasks.release.registry import incumbent
from tasks.release.registry import versions as registry
from tasks.release.registry.releases import Release, intent_file, now
from tasks.storage.atomic import remove, sync_folder, write_atomic
from tasks.storage.intact import open_sealed, sealed
from tasks.storage.reading import read_stored


class Intent(Schema):
    """One release of one name."""

    name: str
    run: str
    alias: Literal["champion", "challenger"] | None
    weights: str
    decision: str
    verdict: Verdict
    forced: Forced | None = None
    record: IncrementRecord | None = None
    """Of an increment whose decision is terminal."""


def write_intent(state: Path, intent: Intent) -> None:
    """From here on the release happens, whatever kills this process."""
    write_atomic(intent_file(state, intent.name), sealed(intent.model_dump_json()))


def read_intent(state: Path, name: str) -> Intent | None:
    """A release that was begun and is not finished.

    Raises:
        UserError: the file is damaged, or of another name or run.
    """
    file = intent_file(state, name)
    if not os.path.lexists(file):
        return None
    try:
        intent = Intent.model_validate(open_sealed(read_stored(file)))
    except (OSError, ValueError, ValidationError):
        raise _given_up(name, file, "cannot be read: the file is damaged") from None
    if intent.name != name:
        raise _given_up(name, file, f"is not told: the file is of '{intent.name}'")
    if intent.record is not None and intent.record.run != intent.run:
        raise _given_up(
            name, file, f"cannot be done: what {intent.run} would leave is of {intent.record.run}"
        )
    return intent


def require_possible(state: Path, intent: Intent) -> None:
    """Refuse what cannot be carried out any more.

    Raises:
        UserError: the folder of the run is gone, or is of another run.
    """
    folder = state / "runs" / intent.run
    require_own(folder)
    if not folder.is_dir():
        what = f"cannot be done: the folder of {intent.run} is gone"
        raise _given_up(intent.name, intent_file(state, intent.name), what, f"put {folder} back; or ")


def _given_up(name: str, file: Path, why: str, instead: str = "") -> UserError:
    what = f"what a stopped release of '{name}' was about to do {why}"
    fix = f"{instead}run: rm -r {shlex.quote(str(file))}, then the same command again; a run that was not finished is released anew"
    return UserError(what, str(file), fix)


def clear_intent(state: Path, name: str) -> None:
    """The release is finished."""
    file = intent_file(state, name)
    file.unlink()
    sync_folder(file.parent)


def carry_out(state: Path, intent: Intent) -> int:
    """Do what is intended, or what is left of it; return the version of the model. Doing it twice changes nothing."""
    folder = state / "runs" / intent.run
    if intent.forced is not None:
        remove(folder / FORCED)
        write_atomic(folder / FORCED, intent.forced.model_dump_json(indent=1))
    version = registry.register(
        state,
        name=intent.name,
        run_id=intent.run,
        model_folder=folder / "model",
        weights_sha256=intent.weights,
        decision_sha256=intent.decision,
        verdict=intent.verdict,
        forced=None if intent.forced is None else f"{intent.forced.who}: {intent.forced.why}",
    )
    if intent.alias == "champion":
        registry.set_champion(state, intent.name, version)
    elif intent.alias == "challenger":
        registry.set_challenger(state, intent.name, version)
    registry.record(state, _line_of(intent))
    consumed = None
    if intent.record is not None:
        watermark = with_record(load_watermark(state, intent.name), intent.record)
        save_watermark(state, watermark)
        consumed = 1 + [record.run for record in watermark.records].index(intent.run)
        champion = registry.champion(state, intent.name)
        write_scores(state, intent.name, None if champion is None else champion.run_id)
    if (folder / "report.html").is_file():  # all that the run leaves is there: it is finished
        close_run(
            folder, intent.decision, intent.name, incumbent.load(folder), consumed, forced=intent.forced
        )
    return version


def _line_of(intent: Intent) -> Release:
    """The line of the record of releases; written after the registry, and again if this process is killed before its end."""
    forced = "" if intent.forced is None else f"{intent.forced.who}: {intent.forced.why}"
    return Release(
        when=now(), name=intent.name, run=intent.run, weights=intent.weights, decision=intent.decision,
        verdict=intent.verdict, alias=intent.alias, forced=forced,
    )  # fmt: skip
