"""Decide the fate of every validated row: trained, scored, duplicate, or leaked; before any mixing."""

from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.results.artifacts import FileLedger, Ledger
from schemas.spec.run import RunSpec
from tasks.data.split.consumed import Rows, load_rows
from tasks.data.split.duplicates import (
    as_known,
    first_occurrences,
    occur_in,
    read_asked,
    read_digests,
    sort_digests,
)
from tasks.data.validate.sources import PreparedSource
from tasks.storage.code import code_version
from tasks.storage.reading import read_stored
from tasks.storage.steps import Step, StepPlan, run_step


class Fate(IntEnum):
    """Where a validated row goes."""

    ACCEPTED = 0
    DUPLICATE = 1
    LEAKED = 2
    HELD_OUT = 3


Fates = npt.NDArray[np.uint8]


def divide(root: Path, spec: RunSpec, sources: Sequence[PreparedSource]) -> Step:
    """Write the fate of every row of every part, and the ledger.

    Training rows (domain, then replay) keep the first of equal texts. Rows that occur in a suite are leaked;
    instructions already if their prompt does. A share of the domain's groups is held out. Rows of suites keep the first of equal texts within their own suite (all
    sources of the domain suite together).

    Of several tasks, each keeps its own first of equal texts: one text may be labelled for all of them. A text that is
    scored for one task is trained for none.

    In an increment, a domain row that was consumed before is a duplicate, and so is a row of an earlier increment's file
    that was not: it is new. The rows of earlier increments are held out by the same rule as they were then.
    """
    increment = spec.increment
    plan = StepPlan(
        root=root,
        name="divide",
        inputs={source.label: source.validated.key for source in sources},
        settings=[
            spec.evaluation.domain_holdout,
            spec.training.seed,
            [past.rows for past in increment.consumed] if increment else None,
            [past.rows for past in increment.remembered] if increment else None,
        ],
        code=code_version(__name__),
    )

    def work(folder: Path) -> dict[str, Any]:
        fates = decide_fates(
            sources,
            spec.evaluation.domain_holdout,
            spec.training.seed,
            load_rows(root, increment.consumed) if increment else None,
            load_rows(root, increment.remembered) if increment else None,
        )
        for source in sources:
            for number, fate in enumerate(fates[source.label]):
                np.save(folder / f"{source.label}-{number:05d}.npy", fate)
        ledger = build_ledger(sources, fates).require_balance()
        (folder / "ledger.json").write_text(ledger.model_dump_json(indent=1))
        return {}

    return run_step(plan, work)


def load_fates(step: Step, source: PreparedSource) -> list[Fates]:
    """Fate of every row, one array per part."""
    return [np.load(step.folder / f"{source.label}-{number:05d}.npy") for number in range(len(source.parts))]


def load_ledger(step: Step) -> Ledger:
    """Ledger of the division."""
    return Ledger.model_validate_json(read_stored(step.folder / "ledger.json"))


def decide_fates(
    sources: Sequence[PreparedSource],
    holdout: float | None,
    seed: int,
    consumed: Rows | None = None,
    remembered: Rows | None = None,
) -> dict[str, list[Fates]]:
    """Fate of every row: label of the source -> one array per part.

    `consumed`: digests of rows that are not new any more; `remembered`: those that sources of the past are read for.
    """
    training = [s for role in ("domain", "replay") for s in sources if s.role == role and not s.past]
    suites = [source for source in sources if source.role.endswith("_suite")]
    known = sort_digests([part for suite in suites for part in suite.parts])
    # one suite, however many sources
    together = by_task([suite for suite in suites if suite.role == "domain_suite"])
    together += [[suite] for suite in suites if suite.role == "general_suite"]
    fates: dict[str, list[Fates]] = {}
    for sources_of_suite in together:
        fates |= _keep_first(sources_of_suite)
    past = [source for source in sources if source.past]
    in_past = sort_digests([part for source in past for part in source.parts])
    first = {label: fate for one in by_task(training) for label, fate in _keep_first(one).items()}
    first |= _keep_first(past)
    for source in [*training, *past]:
        fates[source.label] = []
        for part, fate in zip(source.parts, first[source.label], strict=True):
            if source.past and remembered is not None:
                fate[~occur_in(part, remembered)] = Fate.DUPLICATE
            elif source.role == "domain" and consumed is not None:
                fate[occur_in(part, consumed)] = Fate.DUPLICATE
            elif source.role == "replay":
                fate[occur_in(part, in_past)] = Fate.DUPLICATE
            fate[occur_in(part, known) & (fate == Fate.ACCEPTED)] = Fate.LEAKED
            if (source.role == "domain" or source.past) and holdout is not None:
                fate[_held_out(part, holdout, seed) & (fate == Fate.ACCEPTED)] = Fate.HELD_OUT
            fates[source.label].append(fate)
    _remove_asked(training, fates)
    if len(by_task(training)) > 1:
        _leave_out_held_out(training, fates)
    return fates


def _remove_asked(training: Sequence[PreparedSource], fates: dict[str, list[Fates]]) -> None:
    """A question that is held out is trained on nowhere, not with another answer and not in another group or source."""
    sources = [source for source in training if source.source.record is None and source.layouts]
    parts = [(part, fate) for s in sources for part, fate in zip(s.parts, fates[s.label], strict=True)]
    known = as_known([read_asked(part)[fate == Fate.HELD_OUT] for part, fate in parts])
    for part, fate in parts:
        fate[occur_in(part, known) & (fate == Fate.ACCEPTED)] = Fate.LEAKED


def by_task(sources: Sequence[PreparedSource]) -> list[list[PreparedSource]]:
    """The sources of each task, in the order the tasks come up; all together where there are no tasks."""
    names = dict.fromkeys(source.source.task for source in sources)
    return [[source for source in sources if source.source.task == name] for name in names]


def _leave_out_held_out(training: Sequence[PreparedSource], fates: dict[str, list[Fates]]) -> None:
    """Leak what is held out for one task and would be trained for another (its groups there may be others)."""
    scored = [
        read_digests(part)[fate == Fate.HELD_OUT]
        for source in training
        for part, fate in zip(source.parts, fates[source.label], strict=True)
    ]
    known = as_known(scored)
    for source in training:
        for part, fate in zip(source.parts, fates[source.label], strict=True):
            fate[occur_in(part, known) & (fate == Fate.ACCEPTED)] = Fate.LEAKED


def _keep_first(sources: Sequence[PreparedSource]) -> dict[str, list[Fates]]:
    """Accept the first of equal texts among all these sources: label -> one array per part."""
    parts = [part for source in sources for part in source.parts]
    masks = iter(first_occurrences(parts, sum(sum(source.part_rows) for source in sources)))
    return {
        source.label: [
            np.where(next(masks), Fate.ACCEPTED, Fate.DUPLICATE).astype(np.uint8) for _ in source.parts
        ]
        for source in sources
    }


def read_groups(part: Path) -> list[str]:
    """Group of every row: the user's column where it has a value, else the digest of what the row asks."""
    import pyarrow.parquet as pq

    column = pq.read_table(part, columns=["group"]).column("group")
    digests = read_asked(part)
    if column.null_count == len(column):
        return [f"{high:016x}{low:016x}" for high, low in digests.tolist()]
    return [
        f"group:{group}" if group is not None else f"{high:016x}{low:016x}"
        for group, (high, low) in zip(column.to_pylist(), digests.tolist(), strict=True)
    ]


def _held_out(part: Path, holdout: float, seed: int) -> npt.NDArray[np.bool_]:
    """A group is held out when its seeded hash falls into the first `holdout` of the hash's range."""
    import xxhash

    limit = int(holdout * 2**64)
    groups = read_groups(part)
    return np.fromiter(
        (xxhash.xxh3_64_intdigest(group.encode(), seed=seed) < limit for group in groups), bool, len(groups)
    )


def build_ledger(sources: Sequence[PreparedSource], fates: dict[str, list[Fates]]) -> Ledger:
    """Counts per file: the validation's ledgers with accepted rows moved to their fates."""
    files: list[FileLedger] = []
    for source in sources:
        counts: dict[str, npt.NDArray[np.int64]] = {}
        for part, fate in zip(source.parts, fates[source.label], strict=True):
            for file, rows in _rows_by_file(part):
                tally = np.bincount(fate[rows], minlength=len(Fate))
                counts[file] = counts.get(file, np.zeros(len(Fate), np.int64)) + tally
        for ledger in source.ledgers:
            count = counts.get(ledger.file, np.zeros(len(Fate), np.int64))
            files.append(
                ledger.model_copy(
                    update={
                        "accepted": int(count[Fate.ACCEPTED]),
                        "duplicate": int(count[Fate.DUPLICATE]),
                        "leaked": int(count[Fate.LEAKED]),
                        "held_out": int(count[Fate.HELD_OUT]),
                    }
                )
            )
    return Ledger(files=tuple(files))


def _rows_by_file(part: Path) -> list[tuple[str, npt.NDArray[np.int64]]]:
    import pyarrow.parquet as pq

    column = pq.read_table(part, columns=["file"]).column("file").combine_chunks()
    if len(column) == 0:
        return []
    encoded = column if hasattr(column, "indices") else column.dictionary_encode()
    indices = encoded.indices.to_numpy()
    return [
        (name, np.flatnonzero(indices == code)) for code, name in enumerate(encoded.dictionary.to_pylist())
    ]
