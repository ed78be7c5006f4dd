"""What a run is expected to forget, from its measured shift alone: a curve calibrated on other bases and domains.

    ln F = a + b . shift + c ln(mean learning rate) + d ln(domain steps) + gamma ln(eps / (rho + eps))

F is forgetting in nats per token, rho the replay ratio. The replay shape is that of `forgetting_curve`, shared by all pairs.
Residuals are differences of ln(F + NOISE_NATS): relative where much is forgotten, absolute where little is. A prediction's
bound comes from pairs of base and domain that were left out of the fit, never from residuals of the fit itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from schemas.shift_calibration import Feature, ShiftCalibration
from tasks.evaluation.forgetting_curve import falling
from tasks.evaluation.shift import Shift
from tasks.storage.reading import read_stored

Array = npt.NDArray[np.float64]

CALIBRATION = Path(__file__).with_name("shift_calibration.json")
NOISE_NATS = 0.02
"""Forgetting that is not told from none: two seeds of one short training differ by about so much."""
EPS, GAMMA = (1e-3, 1.0), (0.02, 3.0)
"""Bounds of the replay shape."""


@dataclass(frozen=True)
class Trainings:
    """n trainings, each with what it forgot of one suite."""

    pairs: npt.NDArray[np.str_]  # (n,) name of base and domain
    loss_gaps: Array  # (n,) nats per token
    divergences: Array  # (n,) nats
    rates: Array  # (n,) mean learning rate
    steps: Array  # (n,) domain tokens over batch tokens
    ratios: Array  # (n,) replay
    forgetting: Array  # (n,) nats per token

    def only(self, chosen: npt.NDArray[np.bool_]) -> "Trainings":
        """Those that are chosen (n,)."""
        return Trainings(**{name: values[chosen] for name, values in vars(self).items()})


@dataclass(frozen=True)
class Prior:
    """A fitted curve."""

    features: tuple[Feature, ...]
    coefficients: Array
    """a, b (one per feature), c, d."""
    eps: float
    gamma: float

    def at(self, trainings: Trainings) -> Array:
        """Forgetting to be expected (n,), in nats per token."""
        level = _design(trainings, self.features) @ self.coefficients
        return np.asarray(np.exp(level) * falling(trainings.ratios, self.eps, self.gamma))


def fit_prior(trainings: Trainings, features: Sequence[Feature]) -> Prior:
    """Least squares of ln(F + NOISE_NATS), every pair with the same weight in all.

    Raises:
        ValueError: no more trainings than the curve has coefficients.
    """
    from scipy.optimize import least_squares

    design = _design(trainings, features)  # (n, coefficients)
    size = design.shape[1]
    if len(design) <= size + 2:
        raise ValueError(f"a prior needs more than {size + 2} trainings, got {len(design)}")
    _, pair, counts = np.unique(trainings.pairs, return_inverse=True, return_counts=True)
    weights = 1 / np.sqrt(counts[pair])
    wanted = in_logs(trainings.forgetting)

    def residuals(values: Array) -> Array:
        shape = falling(trainings.ratios, np.exp(values[-2]), np.exp(values[-1]))
        level = np.exp(np.minimum(design @ values[:-2], 50.0))
        return np.asarray(weights * (np.log(level * shape + NOISE_NATS) - wanted))

    linear = np.linalg.lstsq(design * weights[:, None], wanted * weights, rcond=None)[0]
    lows, highs = np.full(size + 2, -np.inf), np.full(size + 2, np.inf)
    lows[-2:], highs[-2:] = np.log([EPS[0], GAMMA[0]]), np.log([EPS[1], GAMMA[1]])
    start = np.concatenate([linear, np.log([0.05, 0.5])])
    found = least_squares(residuals, start, bounds=(lows, highs), x_scale="jac").x
    return Prior(tuple(features), found[:-2], float(np.exp(found[-2])), float(np.exp(found[-1])))


def left_out_residuals(
    trainings: Trainings, features: Sequence[Feature], groups: npt.NDArray[np.str_] | None = None
) -> Array:
    """ln(F + NOISE_NATS) measured minus predicted (n,), each pair (or group) by the prior of all others."""
    groups = trainings.pairs if groups is None else groups
    residuals = np.zeros(len(groups))
    for group in np.unique(groups):
        out = groups == group
        prior = fit_prior(trainings.only(~out), features)
        residuals[out] = in_logs(trainings.forgetting[out]) - in_logs(prior.at(trainings.only(out)))
    return residuals


def spread_of(residuals: Array, pairs: npt.NDArray[np.str_]) -> float:
    """Root of the mean over pairs of their mean squared residual."""
    return float(np.sqrt(np.mean([np.mean(residuals[pairs == pair] ** 2) for pair in np.unique(pairs)])))


@dataclass(frozen=True)
class PriorBand:
    """Forgetting to be expected at each ratio (r,), with one-sided bounds of a new training on a new pair."""

    estimate: Array
    low: Array
    high: Array


def prior_band(
    calibration: ShiftCalibration, shift: Shift, rate: float, steps: Array, ratios: Array, confidence: float
) -> PriorBand:
    """The calibrated curve at a shift, a mean learning rate and domain steps (r,) at each ratio (r,).

    The bound is that of a t-distribution with a degree of freedom less than there are pairs. Estimates do not rise with
    the ratio, and so no bound does.
    """
    from scipy.special import stdtrit

    same = np.ones_like(ratios)
    trainings = Trainings(
        pairs=np.full(len(ratios), ""), loss_gaps=shift.loss_gap * same, divergences=shift.divergence * same,
        rates=rate * same, steps=np.asarray(steps, float), ratios=ratios, forgetting=np.zeros_like(ratios),
    )  # fmt: skip
    estimate = prior_of(calibration).at(trainings)
    estimate = np.maximum.accumulate(estimate[::-1])[::-1]
    margin = np.exp(stdtrit(calibration.degrees_of_freedom, confidence) * calibration.spread)
    noise = calibration.noise_nats
    high = (estimate + noise) * margin - noise
    return PriorBand(estimate, np.maximum((estimate + noise) / margin - noise, 0.0), high)


def prior_of(calibration: ShiftCalibration) -> Prior:
    """The curve of a calibration."""
    slopes = calibration.slopes
    values = [calibration.intercept, *slopes.values(), calibration.rate, calibration.length]
    return Prior(tuple(slopes), np.array(values), calibration.eps, calibration.gamma)


def load_calibration(file: Path = CALIBRATION) -> ShiftCalibration:
    """The calibration that comes with Rootstock."""
    return ShiftCalibration.model_validate_json(read_stored(file))


def in_logs(forgetting: Array) -> Array:
    """ln(F + NOISE_NATS); a gain counts as nothing forgotten."""
    return np.asarray(np.log(np.maximum(forgetting, 0.0) + NOISE_NATS))


def _design(trainings: Trainings, features: Sequence[Feature]) -> Array:
    """Rows 1, features, ln rate, ln steps: (n, coefficients)."""
    columns = {"loss_gap": trainings.loss_gaps, "divergence": np.log(np.maximum(trainings.divergences, 1e-6))}
    return np.stack(
        [
            np.ones_like(trainings.rates),
            *(columns[feature] for feature in features),
            np.log(trainings.rates),
            np.log(trainings.steps),
        ],
        axis=1,
    )
