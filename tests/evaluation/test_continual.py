"""Measures of continual learning against their definitions, written out as loops over a worked matrix."""

import numpy as np
import pytest

from schemas.results.watermark import IncrementRecord
from tasks.evaluation.comparison.continual import (
    backward_transfer,
    describe,
    forgetting,
    forward_transfer,
    intransigence,
    matrix,
)

nan = float("nan")
R = np.array(
    [
        [0.80, 0.30, nan, nan],
        [0.85, 0.70, 0.35, nan],
        [0.60, 0.75, 0.90, 0.25],
        [0.55, 0.65, 0.95, 0.60],
    ]
)
BASE = np.array([0.20, 0.25, 0.30, 0.28])


def test_backward_transfer_compares_the_last_row_with_the_diagonal() -> None:
    assert backward_transfer(R) == pytest.approx(((0.55 - 0.80) + (0.65 - 0.70) + (0.95 - 0.90)) / 3)


def test_forward_transfer_compares_what_stands_above_the_diagonal_with_the_base() -> None:
    assert forward_transfer(R, BASE) == pytest.approx(((0.30 - 0.25) + (0.35 - 0.30) + (0.25 - 0.28)) / 3)


def test_forgetting_is_from_the_best_there_ever_was_not_from_the_first() -> None:
    """0.85 and 0.75 came after the increment's own row; what got better at last is negative forgetting."""
    assert forgetting(R) == pytest.approx(((0.85 - 0.55) + (0.75 - 0.65) + (0.90 - 0.95)) / 3)


def test_forgetting_and_transfer_agree_with_plain_loops_on_random_matrices() -> None:
    random = np.random.default_rng(3)
    for size in (2, 3, 7):
        scores, base, alone = (
            random.normal(size=(size, size)),
            random.normal(size=size),
            random.normal(size=size),
        )
        last = size - 1
        lost = [max(scores[i][j] for i in range(j, last)) - scores[last][j] for j in range(last)]
        assert forgetting(scores) == pytest.approx(sum(lost) / last)
        moved = [scores[last][j] - scores[j][j] for j in range(last)]
        assert backward_transfer(scores) == pytest.approx(sum(moved) / last)
        helped = [scores[j - 1][j] - base[j] for j in range(1, size)]
        assert forward_transfer(scores, base) == pytest.approx(sum(helped) / last)
        missed = [alone[j] - scores[j][j] for j in range(size)]
        assert intransigence(scores, alone) == pytest.approx(sum(missed) / size)


def test_what_is_not_known_is_left_out_and_nothing_known_is_not_a_number() -> None:
    scores = R.copy()
    scores[-1, 0] = nan  # not remembered any more
    assert backward_transfer(scores) == pytest.approx(((0.65 - 0.70) + (0.95 - 0.90)) / 2)
    assert np.isnan(backward_transfer(R[:1, :1]))
    assert intransigence(R, np.array([0.9, nan, nan, nan])) == pytest.approx(0.1)


def records(losses: np.ndarray, other_rows: bool = False) -> list[IncrementRecord]:
    """A line of records as runs leave them; `losses` as R, in nats per token."""
    line = []
    for i in range(len(losses)):
        suites = {f"increment-{j + 1}": f"rows {j}" for j in range(i + 1)} | {"prose": "p"}
        if other_rows and i == len(losses) - 1:
            suites["increment-1"] = "rows of which some were deleted"
        line.append(
            IncrementRecord(
                number=i + 1, run=f"run-{i + 1}", parent=f"run-{i}" if i else None, verdict="promote", files={},
                rows="e" * 64, num_rows=1, seed=1, holdout=0.1, unit="nats per token", suites=suites,
                scores={f"increment-{j + 1}": losses[i, j] for j in range(i + 1)} | {"prose": 4 + i / 10},
                before={f"increment-{i + 1}": losses[i - 1, i] if i else 5.0},
                base={f"increment-{j + 1}": 5.0 for j in range(i + 1)} | {"prose": 3.9},
            )
        )  # fmt: skip
    return line


LOSSES = np.array([[2.0, 4.0, nan], [2.5, 1.0, 4.5], [3.0, 1.25, 2.0]])


def test_the_matrix_is_put_together_from_what_each_run_left() -> None:
    np.testing.assert_array_equal(matrix(records(LOSSES)), LOSSES)


def test_a_loss_counts_the_other_way_round() -> None:
    found = describe(records(LOSSES))
    assert found is not None
    assert found.average == pytest.approx((3.0 + 1.25 + 2.0) / 3)
    assert found.backward_transfer == pytest.approx(-((3.0 - 2.0) + (1.25 - 1.0)) / 2)
    assert found.forgetting == pytest.approx(((3.0 - 2.0) + (1.25 - 1.0)) / 2)
    assert found.forward_transfer == pytest.approx(((5.0 - 4.0) + (5.0 - 4.5)) / 2)
    assert found.general == {"prose": pytest.approx((0.0, 0.1, 0.2, 0.3))}


def test_intransigence_is_known_only_for_increments_that_were_also_learned_alone() -> None:
    found = describe(records(LOSSES))
    assert found is not None
    assert (found.references, found.intransigence) == ((1,), 0.0), "the first was learned alone by itself"
    first, second, third = records(LOSSES)
    more = describe([first, second, third.model_copy(update={"alone": 1.5})])
    assert more is not None
    assert more.references == (1, 3)
    assert more.intransigence == pytest.approx((0.0 + (2.0 - 1.5)) / 2)


def test_scores_on_other_rows_are_not_compared() -> None:
    found = describe(records(LOSSES, other_rows=True))
    assert found is not None
    assert found.scores[2][0] is None
    assert found.forgetting == pytest.approx(1.25 - 1.0)


def test_without_an_increment_there_is_nothing_to_describe() -> None:
    assert describe([]) is None
