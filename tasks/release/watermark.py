"""What was decided on the increments of a name: `<state>/increments/<name>.json`, written only by `promotion`."""

from pathlib import Path

from schemas.artifacts import Decision
from schemas.errors import UserError
from schemas.increments import Increment, IncrementRecord, Watermark, past_suite
from schemas.run import RunSpec
from schemas.scores import AnySuite, Scores, Who
from tasks.data.consumed import load_rows, save_rows
from tasks.data.prepare import Prepared
from tasks.evaluation.continual import Continual, describe
from tasks.storage.atomic import write_atomic
from tasks.storage.hashing import sha256_value

DRAFT = "increment.json"
"""In a run's folder: the record that its decision will leave."""


def watermark_file(state: Path, name: str) -> Path:
    return state / "increments" / f"{name}.json"


def load_watermark(state: Path, name: str) -> Watermark:
    """What is known; nothing before the first decision."""
    file = watermark_file(state, name)
    return Watermark.model_validate_json(file.read_bytes()) if file.is_file() else Watermark(name=name)


def with_record(watermark: Watermark, record: IncrementRecord) -> Watermark:
    """The watermark after a decision; the same if it is there already."""
    if watermark.of_run(record.run) is not None:
        return watermark
    return watermark.model_copy(update={"records": (*watermark.records, record)})


def save_watermark(state: Path, watermark: Watermark) -> None:
    """Replace the file at once."""
    write_atomic(watermark_file(state, watermark.name), watermark.model_dump_json(indent=1) + "\n")


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
        write_atomic(scores_file(state, name), found.model_dump_json(indent=1) + "\n")


def candidates_line(state: Path, run_folder: Path, spec: RunSpec) -> Continual | None:
    """The champions that a candidate comes from, and itself as the last; None where there are no increments."""
    if spec.increment is None:
        return None
    draft = IncrementRecord.model_validate_json((run_folder / DRAFT).read_bytes())
    return describe((*load_watermark(state, spec.name).learned(draft.parent), draft))
