"""What continual learning gained and lost, from the full matrix of scores over increments.

R[i, j] is the score on suite j after increment i; higher is better (a loss is taken negative). Average accuracy, backward
and forward transfer: Lopez-Paz and Ranzato, 2017, https://arxiv.org/abs/1706.08840. Forgetting (from the best there ever was,
not from the first) and intransigence: Chaudhry et al., 2018, https://arxiv.org/abs/1801.10112.

Deviation: there the reference of increment j is trained on increments 1 to j together, here on increment j alone.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from schemas.base import Schema
from schemas.results.scores import MEASURES, Unit
from schemas.results.watermark import IncrementRecord
from schemas.spec.increments import past_suite

Matrix = npt.NDArray[np.float64]
"""(increments, increments), not a number where a model was not scored on a suite."""


class Continual(Schema):
    """A line of champions: their scores as they were measured, and what follows from them."""

    unit: Unit
    increments: tuple[int, ...]
    """Number of each increment, oldest first: rows and columns of the matrix."""
    runs: tuple[str, ...]
    scores: tuple[tuple[float | None, ...], ...]
    """R[i, j] in the unit, as measured (a loss is a loss); None: not scored, or on other rows than at first."""
    base: tuple[float | None, ...]
    """Score of the original base on each suite."""
    general: dict[str, tuple[float | None, ...]]
    """General suite -> how its score differs from the original base's: 0 (the base itself), then after each increment. Each is
    measured on the documents of that run: a large suite is scored on another part each time."""
    average: float | None
    """Mean score on all increments now, in the unit."""
    backward_transfer: float | None
    """Mean of R[T, j] - R[j, j] over j < T: below 0, later increments harmed what earlier ones had learned."""
    forward_transfer: float | None
    """Mean of R[j - 1, j] less the base's score over j > 1: how much earlier increments helped before learning j."""
    forgetting: float | None
    """Mean over j < T of the best score there ever was on j before T, less the score now."""
    intransigence: float | None
    """Mean of what a model trained on increment j alone scores on j, less R[j, j]; over those j that have such a model."""
    references: tuple[int, ...]
    """Increments that have such a model."""


def describe(line: Sequence[IncrementRecord]) -> Continual | None:
    """The matrix and its measures for a line of increments (see `Watermark.learned`); None without any."""
    if not line:
        return None
    unit = line[0].unit
    scores, base = matrix(line), np.array([record.base.get(own(record), math.nan) for record in line])
    numbers = [record.number for record in line]
    alone = {record.number: learned_alone(record) for record in line}
    references = {number: score for number, score in alone.items() if score is not None}
    wanted = np.array([references.get(number, math.nan) for number in numbers])
    sign = 1 if MEASURES[unit].higher_is_better else -1
    general = [name for name in line[-1].scores if not name.startswith("increment-")]
    return Continual(
        unit=unit,
        increments=tuple(numbers),
        runs=tuple(record.run for record in line),
        scores=tuple(tuple(map(known, row)) for row in scores.tolist()),
        base=tuple(map(known, base.tolist())),
        general={name: (0.0, *(_change(record, name) for record in line)) for name in general},
        average=known(mean(scores[-1])),
        backward_transfer=known(backward_transfer(sign * scores)),
        forward_transfer=known(forward_transfer(sign * scores, sign * base)),
        forgetting=known(forgetting(sign * scores)),
        intransigence=known(intransigence(sign * scores, sign * wanted)),
        references=tuple(references),
    )


def _change(record: IncrementRecord, suite: str) -> float | None:
    """How a score differs from the original base's on the same documents; None where one is not known."""
    after, base = record.scores.get(suite), record.base.get(suite)
    return None if after is None or base is None else after - base


def own(record: IncrementRecord) -> str:
    """Name of an increment's own suite."""
    return past_suite(record.number)


def learned_alone(record: IncrementRecord) -> float | None:
    """Score on an increment of a model trained on nothing else: the first candidate is one itself."""
    return record.scores[own(record)] if record.parent is None else record.alone


def matrix(line: Sequence[IncrementRecord]) -> Matrix:
    """R as measured: below and on the diagonal what each run scored, right above it what the model before had scored."""
    size = len(line)
    scores = np.full((size, size), math.nan)
    for i, after in enumerate(line):
        for j, record in enumerate(line[: i + 1]):
            name = own(record)
            if after.suites.get(name) == record.suites[name]:
                scores[i, j] = after.scores[name]
        if i + 1 < size:
            scores[i, i + 1] = line[i + 1].before[own(line[i + 1])]
    return scores


def mean(values: npt.NDArray[np.float64]) -> float:
    """Mean of what is known; not a number if nothing is."""
    there = values[~np.isnan(values)]
    return float(there.mean()) if len(there) else math.nan


def backward_transfer(scores: Matrix) -> float:
    """Mean over j < T of R[T, j] - R[j, j]."""
    return mean((scores[-1] - np.diag(scores))[:-1])


def forward_transfer(scores: Matrix, base: npt.NDArray[np.float64]) -> float:
    """Mean over j > 1 of R[j - 1, j] - b[j]."""
    return mean(np.diag(scores, 1) - base[1:])


def forgetting(scores: Matrix) -> float:
    """Mean over j < T of max over j <= l < T of R[l, j], less R[T, j]."""
    size = len(scores)
    lost = [np.nanmax(scores[j : size - 1, j]) - scores[-1, j] for j in range(size - 1)]
    return mean(np.array(lost, float))


def intransigence(scores: Matrix, references: npt.NDArray[np.float64]) -> float:
    """Mean over j of R*[j] - R[j, j]."""
    return mean(references - np.diag(scores))


def known(value: float) -> float | None:
    return None if math.isnan(value) else value
