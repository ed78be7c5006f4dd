"""What was decided on the increments of a name: `<state>/increments/<name>.json`, written only by `promotion`.

Each run that consumed data says so a second time, in its own folder (`run_record`). A list that was deleted, damaged or
brought back from an old backup is found and written anew from there: nothing is learned twice without a word.
"""

import os
import re
import shlex
from pathlib import Path

from pydantic import ValidationError

from schemas.errors import UserError
from schemas.results.artifacts import Decision
from schemas.results.scores import AnySuite, Scores, Who
from schemas.results.watermark import IncrementRecord, Watermark
from schemas.spec.increments import Increment, past_suite
from schemas.spec.run import RunSpec
from tasks.data.prepare import Prepared
from tasks.data.split.consumed import load_rows, save_rows
from tasks.evaluation.comparison.continual import Continual, describe
from tasks.release.record.run_record import DRAFT, consumed_records, find_run_damage
from tasks.storage.atomic import remove, write_atomic
from tasks.storage.hashing import sha256_value
from tasks.storage.intact import open_sealed, sealed
from tasks.storage.reading import read_stored
from tasks.storage.stderr import tell

_RUN = re.compile(r"(.+)-[0-9a-f]{10}")
"""The id of a run: the name it is of, and a hash."""
_OF_ANOTHER = "it is the list of another name"


def watermark_file(state: Path, name: str) -> Path:
    return state / "increments" / f"{name}.json"


def load_watermark(state: Path, name: str) -> Watermark:
    """What is known; nothing before the first decision.

    Raises:
        UserError: the file is damaged, and no run's folder says what was in it.
    """
    file = watermark_file(state, name)
    kept = _read(file, name)
    if kept is not None and not isinstance(kept, str):
        return kept
    found = consumed_records(state, name)
    if kept is None or found:
        return Watermark(name=name, records=tuple(record for _, record in sorted(found.items())))
    what = f"what was decided on the increments of '{name}' cannot be read: {kept}"
    if kept.startswith(_OF_ANOTHER):  # and no run of this name consumed anything
        raise UserError(
            what, str(file), f"run: rm {shlex.quote(str(file))} (no run of '{name}' consumed any data)"
        )
    raise UserError(
        what,
        str(file),
        "restore the file from a backup of the state folder; without it, all data would be learned again",
    )


def _read(file: Path, name: str) -> Watermark | str | None:
    """The file; what is wrong with it; None where there is none."""
    if not os.path.lexists(file):
        return None
    try:
        kept = Watermark.model_validate(open_sealed(read_stored(file)))
    except OSError as error:
        return str(error.strerror)
    except (ValueError, ValidationError):
        return "it is not the file that was written"
    named = {match[1] for record in kept.records if (match := _RUN.fullmatch(record.run))}
    if others := sorted({kept.name, *named} - {name}):
        return f"{_OF_ANOTHER}, '{others[0]}'"
    return kept


def is_behind(state: Path, name: str) -> bool:
    """Whether runs say they consumed what the list does not hold, or the list cannot be read."""
    kept = _read(watermark_file(state, name), name)
    if isinstance(kept, str):
        return True
    runs = {record.run for record in kept.records} if kept else set()
    return any(record.run not in runs for record in consumed_records(state, name).values())


def mend_watermark(state: Path, name: str) -> None:
    """Write the list anew from the runs' own records, and say so; nothing may be released meanwhile.

    Raises:
        UserError: see `load_watermark`.
    """
    file = watermark_file(state, name)
    kept = _read(file, name)
    if isinstance(kept, Watermark):
        told, records = "lacks increments that its runs consumed", list(kept.records)
    else:
        told = "is gone" if kept is None else f"is damaged ({kept})"
        records = list(load_watermark(state, name).records)
    for place, record in sorted(consumed_records(state, name).items()):
        if all(known.run != record.run for known in records):
            records.insert(place - 1, record)
    if file.is_dir():
        remove(file)
    save_watermark(state, Watermark(name=name, records=tuple(records)))
    tell(
        f"{str(file)!r} {told}: written anew from the folders of its runs, {len(records)} increments"
    )  # fmt: skip


def lacks_champion(state: Path, name: str, champion: str | None) -> bool:
    """Whether a champion is an increment that the list does not hold."""
    if champion is None or load_watermark(state, name).of_run(champion) is not None:
        return False
    return os.path.lexists(state / "runs" / champion / DRAFT)


def learn_of_champion(state: Path, name: str, champion: str | None) -> None:
    """Put the champion in use and those it came from into the list, if it lacks the champion's increment.

    So it does where the release was cut off and its intent lost, or where an earlier version kept no second record.

    Raises:
        UserError: what the champion learned cannot be read.
    """
    watermark = load_watermark(state, name)
    line: list[IncrementRecord] = []
    run = champion
    while run is not None and watermark.of_run(run) is None and all(record.run != run for record in line):
        draft = state / "runs" / run / DRAFT
        if not os.path.lexists(draft):
            break  # it was no increment
        damage = find_run_damage(draft.parent, thorough=False)
        try:
            record = IncrementRecord.model_validate_json(read_stored(draft))
        except (OSError, ValidationError):
            record = None
        if record is None or (damage is not None and damage.file == draft):
            raise UserError(
                f"what the champion of '{name}' learned cannot be read",
                str(draft),
                f"bring the champion before it back: rootstock rollback {name}; or restore the file from a backup",
            )
        line.append(record)
        run = record.parent
    if not line:
        return
    records = sorted((*watermark.records, *line), key=lambda record: record.number)
    save_watermark(state, watermark.model_copy(update={"records": tuple(records)}))
    file = watermark_file(state, name)
    tell(
        f"{str(file)!r} lacked {len(line)} increments that the champion learned: written anew",
    )


def with_record(watermark: Watermark, record: IncrementRecord) -> Watermark:
    """The watermark after a decision; the same if it is there already."""
    if watermark.of_run(record.run) is not None:
        return watermark
    return watermark.model_copy(update={"records": (*watermark.records, record)})


def save_watermark(state: Path, watermark: Watermark) -> None:
    """Replace the file at once."""
    write_atomic(watermark_file(state, watermark.name), sealed(watermark.model_dump_json()) + "\n")


def require_undecided(state: Path, name: str, run: str, increment: Increment) -> None:
    """Refuse to release an increment that is not the next one any more.

    Raises:
        UserError: its number was decided by another run.
    """
    watermark = load_watermark(state, name)
    if len(watermark.records) >= increment.number and watermark.of_run(run) is None:
        raise UserError(
            f"increment {increment.number} of '{name}' was decided already, by {watermark.records[increment.number - 1].run}",
            str(watermark_file(state, name)),
            "run the specification with the growing files instead: it finds what is new",
        )


def draft_record(
    state: Path,
    run: str,
    spec: RunSpec,
    prepared: Prepared,
    data: dict[str, str],
    scores: Scores,
    decision: Decision,
    alone: float | None = None,
) -> IncrementRecord:
    """What this run's decision will leave; the digests of its rows are written already: a file of its own name.

    `data` maps the files that the run read to their sha256; `alone`: see the record.
    """
    increment = spec.increment
    assert increment is not None
    assert spec.evaluation.domain_holdout is not None
    domain = [part for source in prepared.sources if source.role == "domain" for part in source.parts]
    rows, num_rows = save_rows(state, domain, load_rows(state, increment.consumed))
    called = {s.name: past_suite(increment.number) if s.kind == "domain" else s.name for s in scores.suites}

    def scored(who: Who) -> dict[str, float]:
        return {called[s.name]: s.value(who, scores.unit) for s in scores.suites if who in s.items[0].models}

    return IncrementRecord(
        number=increment.number,
        run=run,
        parent=increment.parent,
        verdict=decision.verdict,
        files={file: data[file] for source in increment.new for file in source.files},
        gone=increment.gone,
        rows=rows,
        num_rows=num_rows,
        seed=spec.training.seed,
        holdout=spec.evaluation.domain_holdout,
        unit=scores.unit,
        scores=scored("candidate"),
        before=scored("champion") or scored("base"),
        base=scored("base"),
        alone=alone,
        suites={called[suite.name]: documents_of(suite) for suite in scores.suites},
    )


def documents_of(suite: AnySuite) -> str:
    """Hash of a suite's documents, wherever they lie: their groups and sizes."""
    items = [item.model_dump(mode="json") for item in suite.items]
    return sha256_value(sorted([i["group"], i.get("tokens"), i.get("bytes")] for i in items))


def scores_file(state: Path, name: str) -> Path:
    """R[i, j] of the line of the champion in use, and its measures."""
    return state / "increments" / f"{name}.scores.json"


def write_scores(state: Path, name: str, champion: str | None) -> None:
    """Bring the file of scores up to date with the champion; without increments there is none."""
    if (found := describe(load_watermark(state, name).learned(champion))) is not None:
        if scores_file(state, name).is_dir():
            remove(scores_file(state, name))
        write_atomic(scores_file(state, name), found.model_dump_json(indent=1) + "\n")


def candidates_line(state: Path, run_folder: Path, spec: RunSpec) -> Continual | None:
    """The champions that a candidate comes from, and itself as the last; None where there are no increments."""
    if spec.increment is None:
        return None
    draft = IncrementRecord.model_validate_json(read_stored(run_folder / DRAFT))
    return describe((*load_watermark(state, spec.name).learned(draft.parent), draft))
