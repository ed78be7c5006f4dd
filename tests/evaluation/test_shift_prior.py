"""The prior of the shift: a known law is found again, its bound is that of pairs left out, and it is read safely."""

import numpy as np
import pytest

from schemas.shift_calibration import Range, ShiftCalibration
from tasks.evaluation.forgetting_curve import choosable, falling, smallest_ratio
from tasks.evaluation.shift import Shift
from tasks.evaluation.shift_prior import (
    NOISE_NATS,
    Trainings,
    fit_prior,
    in_logs,
    left_out_residuals,
    load_calibration,
    prior_band,
    spread_of,
)

BOTH = ("loss_gap", "divergence")
TRUE = {"intercept": 9.0, "loss_gap": 0.3, "divergence": 0.5, "rate": 1.2, "length": 0.4}
EPS, GAMMA = 0.05, 0.6


def trainings(pairs: int = 12, between: float = 0.0, seed: int = 0) -> Trainings:
    """Made by the law itself; `between`: what sets one pair apart from another beside its shift, in ln nats."""
    chance = np.random.default_rng(seed)
    of_pair = np.repeat(np.arange(pairs), 8)
    gaps, divergences = chance.uniform(-1, 3, pairs)[of_pair], chance.uniform(0.1, 0.6, pairs)[of_pair]
    own = between * chance.standard_normal(pairs)[of_pair]
    rates = np.tile(np.repeat([2e-4, 1e-3], 4), pairs)
    steps = chance.uniform(10, 100, len(rates))
    ratios = np.tile([0.0, 0.05, 0.25, 0.5], 2 * pairs)
    level = (
        TRUE["intercept"] + TRUE["loss_gap"] * gaps + TRUE["divergence"] * np.log(divergences)
        + TRUE["rate"] * np.log(rates) + TRUE["length"] * np.log(steps) + own
    )  # fmt: skip
    names = np.array([f"pair {number:02d}" for number in of_pair])
    forgetting = np.exp(level) * falling(ratios, EPS, GAMMA)
    return Trainings(names, gaps, divergences, rates, steps, ratios, forgetting)


def calibration(**changes) -> ShiftCalibration:
    values = {
        "bases": ("one", "two"), "domains": ("law",), "pairs": 12, "trainings": 96, "methods": ("full",),
        "ranges": {"replay_ratio": Range(low=0, high=0.75)}, "intercept": TRUE["intercept"],
        "slopes": {"loss_gap": TRUE["loss_gap"], "divergence": TRUE["divergence"]}, "rate": TRUE["rate"],
        "length": TRUE["length"], "eps": EPS, "gamma": GAMMA, "noise_nats": NOISE_NATS, "spread": 0.5,
        "spread_without_shift": 0.9, "spread_of_base": 1.1, "gain_low": 0.1,
    }  # fmt: skip
    return ShiftCalibration.model_validate({**values, **changes})


RATIOS = choosable(0.75)
SHIFT = Shift(1.0, 0.3)


def band(confidence: float = 0.95, shift: Shift = SHIFT, **changes):
    return prior_band(calibration(**changes), shift, 1e-3, np.full(len(RATIOS), 30.0), RATIOS, confidence)


def test_a_known_law_is_found_again_and_predicts_pairs_that_were_left_out():
    made = trainings()
    prior = fit_prior(made, BOTH)
    assert prior.coefficients == pytest.approx(list(TRUE.values()), rel=1e-3)
    assert (prior.eps, prior.gamma) == pytest.approx((EPS, GAMMA), rel=1e-2)
    assert np.abs(left_out_residuals(made, BOTH)).max() < 1e-3


def test_without_the_shift_the_same_pairs_are_predicted_worse():
    made = trainings()
    assert spread_of(left_out_residuals(made, ()), made.pairs) > 0.2


def test_a_pair_is_predicted_without_its_own_trainings():
    made = trainings()
    changed = made.forgetting.copy()
    own = made.pairs == "pair 03"
    changed[own] *= 3
    moved = Trainings(**{**vars(made), "forgetting": changed})
    residuals = left_out_residuals(moved, BOTH)[own]
    expected = in_logs(changed[own]) - in_logs(made.forgetting[own])
    assert residuals == pytest.approx(expected, abs=5e-3), "its prediction has not moved towards it"


def test_the_spread_left_out_is_above_that_in_the_fit_where_pairs_differ_by_themselves():
    made = trainings(pairs=8, between=0.6)
    fitted = in_logs(made.forgetting) - in_logs(fit_prior(made, BOTH).at(made))
    left_out = spread_of(left_out_residuals(made, BOTH), made.pairs)
    assert left_out > 1.15 * spread_of(fitted, made.pairs)


def test_every_pair_counts_alike_in_the_spread_however_many_trainings_it_has():
    residuals, pairs = np.array([1.0, 3.0, 3.0, 3.0]), np.array(["a", "b", "b", "b"])
    assert spread_of(residuals, pairs) == pytest.approx(np.sqrt((1 + 9) / 2))


def test_a_gain_counts_as_nothing_forgotten():
    assert in_logs(np.array([-0.3, 0.0])).tolist() == [np.log(NOISE_NATS)] * 2


def test_the_bound_is_above_the_estimate_by_the_factor_of_a_t_distribution():
    found = band()
    factor = np.exp(1.7958848 * 0.5)  # t of 0.95 with 11 degrees of freedom, times the spread
    assert found.high + NOISE_NATS == pytest.approx((found.estimate + NOISE_NATS) * factor)
    assert (found.low < found.estimate).all()
    assert (found.high > found.estimate).all()
    assert (np.diff(found.high) <= 0).all()


def test_fewer_pairs_and_more_confidence_raise_the_bound():
    assert (band(pairs=4).high > band().high).all()
    assert (band(confidence=0.99).high > band().high).all()


def test_a_domain_further_off_forgets_more():
    near, far = band(shift=Shift(0.0, 0.2)), band(shift=Shift(2.0, 0.2))
    assert far.estimate / near.estimate == pytest.approx(np.exp(2 * TRUE["loss_gap"]))


def test_more_budget_never_asks_for_more_replay():
    high = band().high
    chosen = [smallest_ratio(high[None], budget)[0] for budget in np.geomspace(high[-1], high[0], 40)]
    assert None not in chosen
    assert len(set(chosen)) > 10
    assert chosen == sorted(chosen, reverse=True)
    assert smallest_ratio(high[None], high[-1] * 0.99)[0] is None


def test_too_few_trainings_make_no_prior():
    few = trainings().only(np.arange(96) < 7)
    with pytest.raises(ValueError, match="more than 7 trainings, got 7"):
        fit_prior(few, BOTH)


def test_the_calibration_that_comes_with_rootstock_says_what_it_rests_on():
    known = load_calibration()
    assert known.methods == ("full",)
    assert known.trainings > 100
    assert known.pairs >= 10
    assert {
        "learning_rate",
        "domain_tokens",
        "batch_tokens",
        "parameters",
        "loss_gap",
        "divergence",
    } < known.ranges.keys()
    assert known.ranges["replay_ratio"].high == 0.75
    assert known.spread > 0
