"""The benchmark's controller: bounds, rate limit, anti-windup, and what comes after the upper bound; and its mixing."""

import numpy as np
import pytest

from benchmarks.controller_loop import Mixer
from benchmarks.ratio_controller import RatioController


def ratios(controller: RatioController, probes: list[float]) -> list[float]:
    found = []
    for forgetting in probes:
        controller.update(forgetting)
        found.append(controller.ratio)
    return found


def test_the_ratio_stays_within_its_bounds_and_moves_no_faster_than_its_rate() -> None:
    probes = np.random.default_rng(1).uniform(-2, 2, 200).tolist()
    controller = RatioController(budget=0.1, cuts=1000)
    found = [controller.start, *ratios(controller, probes)]
    assert min(found) >= controller.least
    assert max(found) <= controller.most
    assert np.abs(np.diff(found)).max() <= controller.rate + 1e-12
    assert {controller.least, controller.most} <= set(found)


def test_what_is_held_back_is_not_added_up() -> None:
    controller = RatioController(budget=0.1, cuts=1000)
    assert ratios(controller, [1.0] * 50)[-1] == controller.most
    assert controller.summed == 0
    assert ratios(controller, [0.0])[0] == pytest.approx(controller.most - controller.rate)


def test_a_lasting_error_is_added_up_until_it_is_gone() -> None:
    """On a plant that forgets 0.06 / ratio, it settles where the setpoint is kept."""
    controller = RatioController(budget=0.2)
    for _ in range(300):
        controller.update(0.06 / controller.ratio)
    assert controller.ratio == pytest.approx(0.06 / 0.16, abs=1e-3)


def test_only_at_the_upper_bound_is_the_rate_cut_and_after_the_last_cut_training_stops() -> None:
    controller = RatioController(budget=0.1, patience=2, cuts=2)
    factors = []
    while not controller.stopped:
        controller.update(0.5)
        factors.append((controller.ratio == controller.most, controller.factor))
    at_bound = [factor for bound, factor in factors if bound]
    assert all(factor == 1 for bound, factor in factors if not bound)
    assert at_bound == [1, 0.5, 0.5, 0.25, 0.25, 0.25]


def test_below_the_budget_nothing_is_cut_at_the_upper_bound() -> None:
    controller = RatioController(budget=0.1, start=0.75, setpoint=0.5)
    ratios(controller, [0.09] * 20)
    assert (controller.ratio, controller.factor, controller.stopped) == (0.75, 1.0, False)


def rows(count: int, tokens: int) -> list[dict[str, np.ndarray]]:
    return [{"labels": np.full(tokens, number)} for number in range(count)]


@pytest.mark.parametrize("ratio", [0.0, 0.05, 0.5, 0.75])
def test_the_share_of_tokens_is_met_and_every_domain_sequence_comes_once_in_order(ratio: float) -> None:
    mixer, seen = Mixer(rows(120, 10), rows(1000, 13)), []  # type: ignore[arg-type]
    while step := mixer.next_step(16, ratio):
        seen += step
    domain = [int(row["labels"][0]) for which, row in seen if not which]
    assert domain == list(range(120))
    replay = sum(13 for which, _ in seen if which)
    assert replay - ratio * (replay + 1200) == pytest.approx(0, abs=13)
