"""`complete.json`: the last word of a run, written when it is finished: its decision, and the sha256 of all that it leaves."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from schemas.base import Schema
from schemas.results.artifacts import Decision, FileHash
from schemas.results.watermark import IncrementRecord
from schemas.spec.promotion import Forced
from tasks.storage.atomic import remove, write_atomic
from tasks.storage.hashing import sha256_file
from tasks.storage.intact import Damage, find_damage, hash_folder, list_files, open_sealed, sealed
from tasks.storage.reading import read_stored

FILE = "complete.json"
CARD = "model/README.md"
SPEC = "spec.yaml"
FORCED = "forced.json"
"""In a run's folder: who put it in use against its decision, when and why."""
DRAFT = "increment.json"
"""In a run's folder: the record that its decision on an increment will leave."""


class RunRecord(Schema):
    """What a finished run left."""

    run: str
    """Its id, which its folder must be called: a copy under another name, or two folders that changed places, are none."""
    decision: str
    """sha256 of decision.json; empty while a finished run is done again and has come to another decision."""
    name: str = ""
    incumbent: dict[str, Any] | None = None
    """What `incumbent.json` said: restored with it, a run that is done again is measured as it was."""
    consumed: int | None = None
    """Its place among the increments of its name that were decided for good; the second record of the watermark."""
    forced: Forced | None = None
    """A second copy of forced.json."""
    spec: str = ""
    """A second copy of spec.yaml: without it, nothing could be done again."""
    files: tuple[FileHash, ...] = ()
    """All but hidden files, this one and the model's card, which people may edit. Empty: an earlier version finished it."""


def read_record(run: Path) -> RunRecord | Damage | None:
    """What a run left; None if it is not finished."""
    record = read_any_record(run)
    if isinstance(record, RunRecord) and record.run != name_of(run):
        return Damage(run / FILE, f"is the record of another run, {record.run}")
    return record


def read_any_record(folder: Path) -> RunRecord | Damage | None:
    """The record that lies in a folder, of whichever run; None if there is none."""
    file = folder / FILE
    try:
        return RunRecord.model_validate(open_sealed(read_stored(file)))
    except FileNotFoundError:
        return None
    except OSError as error:
        return Damage(file, f"cannot be read ({error.strerror})")
    except (ValueError, ValidationError):
        return Damage(file, "is not the one that was written when the run was finished")


def name_of(run: Path) -> str:
    """The id that a run's folder is called by, however the path to it is written."""
    return run.name or run.absolute().name


def other_run(folder: Path) -> str | None:
    """The run that a folder is of, where it is called by another name."""
    record = read_any_record(folder)
    return record.run if isinstance(record, RunRecord) and record.run != name_of(folder) else None


def close_run(
    run: Path,
    decision: str,
    name: str,
    incumbent: dict[str, Any] | None,
    consumed: int | None = None,
    written: bool = False,
    forced: Forced | None = None,
) -> None:
    """Mark a run as finished; `decision` is the sha256 of its decision.json.

    `forced`: how it has just been put in use against it; what was known of that is kept, and forced.json written from it.
    `written`: the run has just written all its files. Otherwise those of the record before stay what they were: what was
    damaged since must not become right by a promotion.
    """
    before = read_record(run)
    known = before if isinstance(before, RunRecord) else None
    files = known.files if known and known.decision == decision and not written else ()
    forced = forced or (known.forced if known else None)
    remove(run / FORCED)  # never hashed as it is found
    if forced is not None:
        write_atomic(run / FORCED, forced.model_dump_json(indent=1))
    files = tuple(file for file in files or _hash(run) if file.path != FORCED)
    if forced is not None:
        told = FileHash(path=FORCED, sha256=sha256_file(run / FORCED), bytes=(run / FORCED).stat().st_size)
        files = (*files, told)
    if consumed is None and known is not None:
        consumed = known.consumed
    spec = known.spec if known and not written else ""
    if not spec and (run / SPEC).is_file():
        spec = (run / SPEC).read_text(encoding="utf-8")
    record = RunRecord(
        run=run.name,
        decision=decision,
        name=name,
        incumbent=incumbent,
        consumed=consumed,
        forced=forced,
        spec=spec,
        files=files,
    )
    write_record(run, record)


def write_record(run: Path, record: RunRecord) -> None:
    """Write `complete.json`."""
    if (run / FILE).is_dir():
        remove(run / FILE)
    write_atomic(run / FILE, sealed(record.model_dump_json()))


def find_run_damage(run: Path, thorough: bool = True) -> Damage | None:
    """The first file of a finished run that is not what the run left; its model folder holds no others.

    None too if the run is not finished. `thorough`: see `find_damage`.
    """
    record = read_record(run)
    if not isinstance(record, RunRecord):
        return record
    seen = run.parents[1] / "seen" / f"run-{run.name}.json"
    if (damage := find_damage(run, record.files, None, seen, thorough)) is not None or not record.files:
        return damage
    of_model = {file.path.removeprefix("model/") for file in record.files if file.path.startswith("model/")}
    return find_damage(run / "model", (), of_model | {Path(CARD).name})


def consumed_records(state: Path, name: str) -> dict[int, IncrementRecord]:
    """Place -> what each finished run of a name says it left in the watermark; of intact records only."""
    found = {}
    for draft in sorted((state / "runs").glob(f"*/{DRAFT}")):
        record = read_any_record(draft.parent)  # what was consumed stays so, whatever the folder is called
        if not isinstance(record, RunRecord) or record.name != name or record.consumed is None:
            continue
        listed = [file for file in record.files if file.path == DRAFT]
        if find_damage(draft.parent, listed, besides=None):
            continue
        with suppress(OSError, ValidationError):
            found[record.consumed] = IncrementRecord.model_validate_json(read_stored(draft))
    return found


def _hash(run: Path) -> tuple[FileHash, ...]:
    hidden = {
        str(path.relative_to(run))
        for path in list_files(run)
        if path.relative_to(run).parts[0].startswith(".")
    }
    return hash_folder(run, {FILE, CARD, *hidden})


def weights_of(state: Path, run: str) -> str | None:
    """sha256 of the weights that a finished run was decided on; None if its folder does not say."""
    file = state / "runs" / run / "decision.json"
    record = read_record(file.parent)
    if not isinstance(record, RunRecord) or _sha256_if_there(file) != record.decision:
        return None
    return Decision.model_validate_json(read_stored(file)).bindings.weights


def _sha256_if_there(file: Path) -> str:
    return sha256_file(file) if file.is_file() else "missing"
