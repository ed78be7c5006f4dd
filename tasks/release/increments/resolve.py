"""From a specification that grows to the one increment that is due: a pure function of what is there and what was decided.

A file is known by its content, not by its name or date: late files are simply new, a renamed one is not. Of a changed file
only the rows that no earlier increment had are new (`tasks/data/split/divide.py`). A deleted file's rows are not replayed any more.
Every decision but `inconclusive` consumes: what was rejected or rolled back would give the same model again, and would
block whatever comes after it. What is inconclusive stays, and is decided together with the next data.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from schemas.errors import NoNewData, UserError
from schemas.results.watermark import IncrementRecord, Watermark
from schemas.spec.increments import Increment, PastRows, PickedSource
from schemas.spec.run import RunSpec
from schemas.spec.sources import Source

Found = Sequence[Mapping[str, str]]
"""For each source of `domain`: file -> sha256."""
Wanted = Callable[[str, str], bool]


def resolve(
    spec: RunSpec,
    watermark: Watermark,
    champion: str | None,
    found: Found,
    again: bool = False,
    chosen: Callable[[str], bool] = lambda _: True,
) -> RunSpec:
    """The specification of the increment that is due.

    `champion` is the run of the model in use. With `again`, what the champion has not learned is offered once more, however
    it was decided (a backfill). Of what is new, only `chosen` files take part.

    Raises:
        NoNewData: every file was decided on before.
        UserError: the split was changed, so that rows which were trained on would be scored.
    """
    assert spec.increments is not None
    assert isinstance(spec.base, str)
    learned = watermark.learned(champion)
    consumed = learned if again else watermark.records
    _require_same_split(spec, learned)
    known = {sha256 for record in consumed for sha256 in record.files.values()}
    remembered = learned[-spec.increments.remembered :]
    old_files = {file for record in remembered for file in record.files}
    # what stood at such a file's place later holds its rows too, wherever it lies by now
    old_content = {sha for r in watermark.records for file, sha in r.files.items() if file in old_files}

    new = _pick(spec.domain, found, lambda file, sha256: sha256 not in known and chosen(file))
    if not new:
        files = sum(map(len, found))
        where = ", ".join(source.path for source in spec.domain)
        fix = "wait for new data; `rootstock backfill` offers again what the champion has not learned"
        raise NoNewData(f"no new data: all {files:,} files were decided on before", where, fix)
    past = _pick(spec.domain, found, lambda file, sha256: sha256 in old_content or file in old_files)
    here = {file for files in found for file in files} | {s for files in found for s in files.values()}
    gone = sorted(
        file for r in learned for file, sha256 in r.files.items() if file not in here and sha256 not in here
    )
    increment = Increment(
        number=len(watermark.records) + 1,
        original=spec.base,
        parent=champion,
        new=new,
        past=past,
        remembered=tuple(PastRows(number=r.number, rows=r.rows) for r in remembered) if past else (),
        consumed=tuple(PastRows(number=r.number, rows=r.rows) for r in consumed),
        gone=tuple(gone),
    )
    changes: dict[str, Any] = {"increment": increment}
    if champion is not None and spec.increments.start == "champion":
        changes |= {"base": None, "base_from": "champion"}
    if not spec.has_general and not past:  # the first increment of a specification without general text
        changes["mixture"] = spec.mixture.model_copy(
            update={"replay_ratio": 0.0, "forgetting_budget": None, "proxies": None}
        )
    return RunSpec.model_validate(spec.model_copy(update=changes).model_dump())


def _pick(domain: Sequence[Source], found: Found, wanted: Wanted) -> tuple[PickedSource, ...]:
    """Each source with its wanted files; a source without any is left out."""
    picked = []
    for source, files in zip(domain, found, strict=True):
        chosen = tuple(sorted(file for file, sha256 in files.items() if wanted(file, sha256)))
        if chosen:
            picked.append(PickedSource(**source.model_dump(), files=chosen))
    return tuple(picked)


def _require_same_split(spec: RunSpec, learned: Sequence[IncrementRecord]) -> None:
    for record in learned:
        now = spec.training.seed, spec.evaluation.domain_holdout
        if (record.seed, record.holdout) != now:
            raise UserError(
                f"the split was changed after increment {record.number}: rows it trained on would be scored now",
                "training.seed, evaluation.domain_holdout",
                f"write seed {record.seed} and domain_holdout {record.holdout:g} again, or begin under another name",
            )
