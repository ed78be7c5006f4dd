"""The forgetting curve: it is recovered, bounded as promised, and read in the safe direction."""

import numpy as np
import pytest

from tasks.evaluation.replay.forgetting_curve import (
    Measurements,
    _falling,
    choosable,
    falling,
    fit_curves,
    forgetting_band,
    smallest_ratio,
)

RATIOS = np.repeat([0.0, 0.01, 0.05, 0.1, 0.25, 0.5], 2)
WHOLE = 292_000.0
TOKENS = np.tile([0.125, 0.25], 6) * WHOLE


def truth(ratios, tokens):
    """Like the stories rig: much is forgotten without replay, and ever more; little with half replay."""
    z = (0.04 / (ratios + 0.04)) ** 0.9
    return -0.02 + 1.44 * z + (-0.02 + 0.40 * z) * np.log(tokens / (0.25 * WHOLE))


def measured(seed: int, noise: float, groups: int = 60) -> tuple[Measurements, np.random.Generator]:
    """Proxies with their own chance, on documents that differ in how much of them is forgotten."""
    chance = np.random.default_rng(seed)
    forgotten = truth(RATIOS, TOKENS) * (1 + noise * chance.standard_normal(len(RATIOS)))
    sizes = chance.integers(100, 400, groups).astype(float)
    of_document = 1 + 0.3 * chance.standard_normal(groups)
    return Measurements(RATIOS, TOKENS, forgotten[:, None] * of_document * sizes, sizes), chance


def band_of(measurements: Measurements, seed: int = 0, resamples: int = 300):
    ratios = choosable(0.5)
    return forgetting_band(measurements, ratios, WHOLE * (1 - ratios), 0.95, seed, resamples)


def test_a_known_curve_is_found_again_between_and_beyond_the_measured_points():
    stretch = np.log(TOKENS / TOKENS.max())
    fit = fit_curves(RATIOS, stretch, truth(RATIOS, TOKENS)[None], np.ones(len(RATIOS)))
    ratios = np.array([0.0, 0.02, 0.07, 0.15, 0.35, 0.5])
    longer = np.full(6, np.log(2.0))
    assert fit.through(ratios, longer)[0] == pytest.approx(truth(ratios, 2 * TOKENS.max()), abs=0.03)
    assert fit.through(RATIOS, stretch)[0] == pytest.approx(truth(RATIOS, TOKENS), abs=0.02)


def test_no_curve_rises_with_replay_whatever_was_measured():
    rising = 0.1 + 0.5 * RATIOS + 0.02 * np.random.default_rng(3).standard_normal((5, len(RATIOS)))
    fit = fit_curves(RATIOS, np.log(TOKENS / TOKENS.max()), rising, np.ones(len(RATIOS)))
    curves = fit.at(choosable(0.5), np.full(len(choosable(0.5)), 1.0))
    assert (np.diff(curves, axis=1) <= 1e-12).all()


def test_forgetting_that_falls_with_length_is_not_held_to_fall_on():
    falls = truth(RATIOS, np.full(len(RATIOS), TOKENS.max())) - 0.05 * np.log(TOKENS / TOKENS.max())
    fit = fit_curves(RATIOS, np.log(TOKENS / TOKENS.max()), falls[None], np.ones(len(RATIOS)))
    at_proxies, longer = (fit.at(np.array([0.5]), np.array([stretch]))[0, 0] for stretch in (0.0, 2.0))
    assert longer == pytest.approx(at_proxies)
    assert fit.through(np.array([0.5]), np.array([2.0]))[0, 0] < at_proxies - 0.05


def test_what_replay_leaves_is_all_without_it_and_ever_less_with_more():
    z = falling(np.linspace(0, 1, 50), 0.04, 0.9)
    assert z[0] == 1.0
    assert (np.diff(z) < 0).all()


@pytest.mark.parametrize(
    ("ratios", "tokens"),
    [
        ([0, 0, 0.1, 0.1, 0.5, 0.5], [1, 2] * 3),
        ([0, 0, 0.1, 0.1] * 2, [1, 2] * 4),
        ([0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5], [2] * 7),
    ],
    ids=["six proxies", "two ratios", "one length"],
)
def test_too_few_proxies_make_no_curve(ratios, tokens):
    values = np.ones((1, len(ratios)))
    with pytest.raises(ValueError, match="a curve needs"):
        fit_curves(np.array(ratios, float), np.log(np.array(tokens, float)), values, values[0])


@pytest.mark.slow
def test_the_upper_bound_covers_a_new_training_as_often_as_it_promises():
    trials, noise, ratios = 120, 0.1, choosable(0.5)
    covered = np.zeros(len(ratios))
    for trial in range(trials):
        measurements, chance = measured(trial, noise)
        new = truth(ratios, WHOLE * (1 - ratios)) * (1 + noise * chance.standard_normal())
        covered += new <= band_of(measurements, trial).high
    shares = covered / trials
    assert shares.min() >= 0.89, "95 % promised; three standard errors of 120 trials are 6 %"
    assert shares.mean() <= 0.995, "a bound that always holds is no bound"


def test_more_budget_never_asks_for_more_replay():
    band = band_of(measured(5, 0.05)[0])
    chosen = [smallest_ratio(band.high[None], budget)[0] for budget in np.geomspace(0.05, 5, 60)]
    met = [index for index in chosen if index is not None]
    assert len(set(met)) > 10
    assert met == sorted(met, reverse=True)
    assert chosen[: len(chosen) - len(met)] == [None] * (len(chosen) - len(met)), "what meets less meets more"
    assert met[-1] == 0, "a budget above all forgetting needs no replay"


def test_the_ratio_is_the_smallest_whose_upper_bound_meets_the_budget_on_every_suite():
    highs = np.array([[0.9, 0.5, 0.2, 0.1], [0.8, 0.3, 0.3, 0.05]])
    assert smallest_ratio(highs, 0.3) == (2, 0), "the first suite still misses it at the ratio before"
    assert smallest_ratio(highs, 0.25) == (3, 1)
    assert smallest_ratio(highs, 0.01)[0] is None
    assert smallest_ratio(highs, 0.01)[1] == 0
    assert smallest_ratio(highs, 1.0) == (0, 0)


def test_the_estimate_lies_below_the_upper_bound_and_the_bound_never_rises():
    band = band_of(measured(7, 0.1)[0])
    assert (np.diff(band.high) <= 0).all()
    assert (band.low < band.high).all()
    assert np.mean(band.estimate < band.high) > 0.9


def test_a_bound_that_would_rise_with_replay_is_raised_before_it():
    assert _falling(np.array([3.0, 1.0, 2.0, 0.5])).tolist() == [3.0, 2.0, 2.0, 0.5]


def test_however_well_the_curve_is_known_a_new_training_still_has_its_chance():
    chance = np.random.default_rng(1)
    ratios, tokens = np.tile(RATIOS, 20), np.tile(TOKENS, 20)
    forgotten = truth(ratios, tokens) * (1 + 0.1 * chance.standard_normal(len(ratios)))
    sizes = np.full(4000, 100.0)
    known = Measurements(ratios, tokens, np.repeat(forgotten[:, None], len(sizes), axis=1) * 100.0, sizes)
    band = band_of(known, resamples=600)
    above = band.high[20] / band.estimate[20] - 1  # at 10 % replay
    assert above == pytest.approx(1.645 * 0.1, rel=0.35)


def test_noisier_proxies_widen_the_band_and_so_do_fewer_documents():
    quiet, loud = (band_of(measured(9, noise)[0]) for noise in (0.01, 0.15))
    assert loud.relative_noise > 3 * quiet.relative_noise
    assert np.median(loud.high - loud.low) > 2 * np.median(quiet.high - quiet.low)
    few = band_of(measured(9, 0.01, groups=8)[0])
    assert np.median(few.high - few.low) > 1.5 * np.median(quiet.high - quiet.low)


def test_the_same_measurements_give_the_same_band():
    first, again = (band_of(measured(11, 0.05)[0], seed=4) for _ in range(2))
    assert np.array_equal(first.high, again.high)
    assert not np.array_equal(first.high, band_of(measured(11, 0.05)[0], seed=5).high)


def test_ratios_that_can_be_chosen_reach_from_none_to_the_highest_tried():
    assert choosable(0.5)[0] == 0
    assert choosable(0.5)[-1] == 0.5
    assert choosable(0.013).tolist() == [0, 0.005, 0.01, 0.013]
