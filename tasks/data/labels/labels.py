"""The labels of a run: found in its training rows, and written as numbers beside the tokens."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.errors import UserError
from schemas.spec.objectives import Objective
from schemas.spec.run import RunSpec
from tasks.data.labels.model_head import TaskOutputs, output_name, plain_names
from tasks.data.read.entity_tags import iob2_names, types_of
from tasks.data.split.divide import Fate, load_fates
from tasks.data.tokens.tagged_words import NO_WORD, part_words
from tasks.data.tokens.token_files import TokenPart, open_tokens
from tasks.data.validate.sources import PreparedSource
from tasks.storage.code import code_version
from tasks.storage.steps import Step, StepPlan, run_step

IGNORED = -100  # label of a row or position that is not trained


@dataclass(frozen=True)
class Labels:
    """The outputs of the head, and how often each is trained."""

    step: Step

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each output: labels, or the tags of IOB2 with O first; of several tasks, `task/label`."""
        return tuple(self.step.facts["names"])

    @property
    def tasks(self) -> tuple[TaskOutputs, ...]:
        """Which outputs belong to which of several tasks; empty if there is one."""
        return tuple(TaskOutputs(*task) for task in self.step.facts["tasks"])

    def of_task(self, name: str | None) -> dict[str, int]:
        """Training rows (or words) of each label of a task, by its plain name; of all outputs if there is one task."""
        task = next((task for task in self.tasks if task.name == name), None)
        counts = [self.counts[output] for output in self.names]
        if task is None:
            return dict(zip(self.names, counts, strict=True))
        return dict(zip(task.plain(self.names), counts[task.start : task.stop], strict=True))

    @property
    def counts(self) -> dict[str, int]:
        """Training rows (or words) of each name."""
        return dict(self.step.facts["counts"])

    def open(self, source: PreparedSource) -> list[npt.NDArray[np.int32]]:
        """Label numbers of a training source, part by part: of each row, or of each id of tagged words."""
        return [
            np.load(self.step.folder / f"{source.label}-{number:05d}.npy", mmap_mode="r")
            for number in range(len(source.parts))
        ]


def find_labels(
    root: Path,
    spec: RunSpec,
    sources: Sequence[PreparedSource],
    tokenized: dict[str, Step],
    divided: Step,
    vocab_size: int,
    known: Sequence[str] = (),
) -> Labels:
    """Name the head's outputs, and write the label of every training row (tagged words: of every id).

    The names are those of `objective.labels`; else those that the base's own head knows (`known`, if they share one
    with the data), then those of the training rows, sorted. Several tasks number their outputs one after another.

    Raises:
        UserError: fewer than two labels (or no entity type); a label of `objective.labels` that no training row has; a
            scored row with a label that the model could not give.
    """
    objectives = head_tasks(spec)
    plan = StepPlan(
        root=root,
        name="labels",
        inputs={
            "divided": divided.key,
            **{source.label: tokenized[source.label].key for source in sources},
            **{f"rows of {source.label}": source.validated.key for source in sources},
        },
        settings=[
            [[task, objective.kind, objective.known_labels] for task, objective in objectives.items()],
            list(known),
        ],
        code=code_version(__name__),
    )

    def work(folder: Path) -> dict[str, Any]:
        names: list[str] = []
        counts: dict[str, int] = {}
        tasks: list[tuple[str, int, int]] = []
        for task, objective in objectives.items():
            own = [source for source in sources if source.source.task == task]
            training = [source for source in own if source.role in ("domain", "replay")]
            found = _count(training, divided, objective)
            where = "objective" if task is None else f"objective.tasks, task {task}"
            chosen = _choose(objective, found, plain_names(known, task), where)
            _require_known(own, divided, objective, set(chosen))
            offset = len(names)
            for source in training:
                parts = open_tokens(tokenized[source.label], len(source.parts), vocab_size)
                for number, (part, tokens) in enumerate(zip(source.parts, parts, strict=True)):
                    written = _numbers(part, tokens, chosen, objective, offset)
                    np.save(folder / f"{source.label}-{number:05d}.npy", written)
            whole = [output_name(task, name) for name in chosen]
            names += whole
            counts |= {name: found[label] for name, label in zip(whole, chosen, strict=True)}
            tasks += [] if task is None else [(task, offset, len(names))]
        return {"names": names, "counts": counts, "tasks": tasks}

    return Labels(run_step(plan, work))


def head_tasks(spec: RunSpec) -> dict[str | None, Objective]:
    """What the head learns, by task; None is the name of an objective that is one task itself."""
    objective = spec.objective
    return {name: objective.of_task(name) for name in objective.task_names} or {None: objective}


def part_labels(part: Path, objective: Objective) -> Iterator[list[str]]:
    """The labels of every row of a part: one, or its tags."""
    if objective.tags_words:
        for rows in part_words(part, "tags"):
            yield from rows
        return
    import pyarrow.parquet as pq

    for label in pq.read_table(part, columns=["label"]).column(0).to_pylist():
        yield [label]


def _count(training: Sequence[PreparedSource], divided: Step, objective: Objective) -> Counter[str]:
    counts: Counter[str] = Counter()
    for source in training:
        for part, fates in zip(source.parts, load_fates(divided, source), strict=True):
            for labels, fate in zip(part_labels(part, objective), fates, strict=True):
                if fate == Fate.ACCEPTED:
                    counts.update(labels)
    return counts


def _choose(objective: Objective, counts: Counter[str], known: Sequence[str], where: str) -> list[str]:
    """Names of the outputs in their order; `where` the objective stands in the specification."""
    tags = objective.tags_words
    found = sorted(types_of(counts) if tags else counts)
    before = [name[2:] for name in known if name.startswith("B-")] if tags else list(known)
    what = "entity type" if tags else "label"
    if objective.known_labels is not None:
        missing = [name for name in objective.known_labels if name not in found and name not in before]
        if missing:
            raise UserError(
                f"no training row has the {what} {', '.join(missing[:5])}: the model could not learn it",
                f"{where}.labels" if where == "objective" else f"{where}: labels",
                f"add training rows that have it, or remove it; known: {', '.join(found[:20])}",
            )
        chosen = list(objective.known_labels)
    else:
        kept = before if set(before) & set(found) else []
        chosen = [*kept, *(name for name in found if name not in kept)]
    if len(chosen) < (1 if tags else 2):
        raise UserError(
            f"the training rows hold {len(chosen)} {what}{'' if len(chosen) == 1 else 's'}: nothing to tell apart",
            "domain" if where == "objective" else f"domain, {where.rpartition(', ')[2]}",
            f"give training rows of at least {'one type' if tags else 'two labels'}, or check columns",
        )
    return list(iob2_names(chosen)) if tags else chosen


def _require_known(
    sources: Sequence[PreparedSource], divided: Step, objective: Objective, names: set[str]
) -> None:
    """Refuse a scored row with a label that the model could not give: it could only be wrong."""
    places: list[str] = []
    rows = 0
    for source in sources:
        scored = Fate.HELD_OUT if source.role == "domain" else Fate.ACCEPTED
        if source.role == "replay":
            continue
        for part, fates in zip(source.parts, load_fates(divided, source), strict=True):
            for row, (labels, fate) in enumerate(zip(part_labels(part, objective), fates, strict=True)):
                if fate == scored and not names.issuperset(labels):
                    rows += 1
                    places += [_place(part, row)] if len(places) < 3 else []
    if rows:
        raise UserError(
            f"{rows:,} scored {'rows have a label' if rows > 1 else 'row has a label'} that no training row has:"
            " the model could never give it",
            ", ".join(places),
            "add training rows with it, remove these rows, or write objective.labels without it: rows with any other"
            " label then go to quarantine",
        )


def _place(part: Path, row: int) -> str:
    import pyarrow.parquet as pq

    table = pq.read_table(part, columns=["file", "line"])
    return f"{table['file'][row].as_py()}:{table['line'][row].as_py()}"


def _numbers(
    part: Path, tokens: TokenPart, names: Sequence[str], objective: Objective, offset: int
) -> npt.NDArray[np.int32]:
    """Number of each row's label, (rows,); of tagged words: of each word's first id, IGNORED elsewhere, (total,).

    `offset` is the number of the task's first output. Rows that are not trained may have a label without a number: IGNORED.
    """
    number = {name: index for index, name in enumerate(names, start=offset)}
    if tokens.words is None:
        return np.array([number.get(label, IGNORED) for (label,) in part_labels(part, objective)], np.int32)
    written = np.full(len(tokens.tokens), IGNORED, np.int32)
    for row, tags in enumerate(part_labels(part, objective)):
        start, stop = tokens.offsets[row], tokens.offsets[row + 1]
        words = tokens.words[start:stop]
        at = np.flatnonzero(words != NO_WORD)
        of_word = np.array([number.get(tag, IGNORED) for tag in tags], np.int32)
        written[start + at] = of_word[words[at]]
    return written
