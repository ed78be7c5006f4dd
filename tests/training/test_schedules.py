"""The mean of a schedule, as a share of its peak."""

import pytest

from schemas.training import Training
from tasks.training.schedules import mean_factor


def mean_of(schedule: str, steps: int = 100, **settings: float) -> float:
    settings = {"warmup_ratio": 0.0, **settings}
    return mean_factor(Training(steps=steps, schedule=schedule, **settings), steps)


@pytest.mark.parametrize(
    ("schedule", "mean"),
    [
        ("constant", 1.0),
        ("linear", 0.505),  # 1, 0.99, ..., 0.01
        ("cosine", 0.505),
        ("wsd", (90 + 10 - sum((step / 10) ** 0.5 for step in range(10))) / 100),
    ],
)
def test_the_mean_is_that_of_all_steps(schedule, mean):
    assert mean_of(schedule) == pytest.approx(mean)


def test_a_warm_up_takes_its_half_away():
    # 0, 1/20, ..., 19/20 and then 80 times 1
    assert mean_of("constant", warmup_ratio=0.2) == pytest.approx((9.5 + 80) / 100)


def test_one_step_without_warm_up_is_taken_at_the_peak():
    assert mean_of("cosine", steps=1) == 1.0
