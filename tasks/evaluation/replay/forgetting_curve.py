"""How forgetting falls with replay, measured by short trainings, and how little replay keeps a budget.

    F(rho, D) = E + C z + (E' + C' z) ln(D / D0),   z = (eps / (rho + eps))^gamma,   C, C' >= 0

F is forgetting in nats per token, rho the replay ratio, D the run's domain tokens, D0 those of the longest proxies. z is 1
without replay and falls towards 0: E + C is forgotten without replay, E is what replay cannot take away. At D0 it has the
form that scaling laws have for a second source of data (Que et al., "D-CPT Law", 2024, https://arxiv.org/abs/2406.01375). Over the length it is straight in ln D: a small range of lengths shows no more than a
slope, and without replay forgetting grows so on every base we measured.

Given eps and gamma the curve is linear in its coefficients, so all of a grid of (eps, gamma) are solved exactly: no start
values, no local minima, the same answer each time.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

EPS = np.geomspace(1e-3, 0.3, 16)
GAMMA = np.geomspace(0.15, 3.0, 16)
COEFFICIENTS = 6
"""E, C, E', C', eps, gamma: a curve needs more proxies than that."""
NOISE_SHARE, NOISE_FLOOR = 0.05, 0.002
"""A priori spread of a training: this share of its forgetting, and this many nats. Only the ratio of the two matters: the
size is measured."""
RESAMPLES = 2000
STEP = 0.005
"""Distance of the ratios that can be chosen."""


@dataclass(frozen=True)
class Measurements:
    """The proxies' losses on one suite: n proxies, G groups of documents."""

    ratios: Array  # (n,)
    tokens: Array  # (n,) domain tokens
    differences: Array  # (n, G) tuned minus base, nats per group
    sizes: Array  # (G,) label tokens per group

    @property
    def forgetting(self) -> Array:
        """(n,) nats per token."""
        return np.asarray(self.differences.sum(axis=1) / self.sizes.sum())

    def resampled(self, seed: int, resamples: int) -> Array:
        """Forgetting of every proxy on groups drawn with replacement, the same for all proxies: (resamples, n)."""
        groups = len(self.sizes)
        counts = np.random.default_rng([seed, 1]).multinomial(groups, np.full(groups, 1 / groups), resamples)
        return np.asarray(counts @ self.differences.T / (counts @ self.sizes)[:, None])


@dataclass(frozen=True)
class Fits:
    """Curves fitted to B sets of forgettings."""

    coefficients: Array  # (B, 4): E, C, E', C'
    eps: Array  # (B,)
    gamma: Array  # (B,)

    def at(self, ratios: Array, stretch: Array) -> Array:
        """Forgetting at replay ratios (r,) and ln(D / D0) there (r,): (B, r).

        A trend over the length is followed only where it makes forgetting worse: what falls as training goes on levels off
        somewhere, and the proxies do not show where.
        """
        level, trend = self._parts(ratios)
        return np.asarray(level + np.maximum(trend * stretch, 0.0))

    def through(self, ratios: Array, stretch: Array) -> Array:
        """The curve itself, as it was fitted: (B, n)."""
        level, trend = self._parts(ratios)
        return np.asarray(level + trend * stretch)

    def _parts(self, ratios: Array) -> tuple[Array, Array]:
        """Level at D0 and trend per unit of ln D, each (B, r)."""
        z = falling(ratios[None, :], self.eps[:, None], self.gamma[:, None])
        floor, scale, floor_slope, scale_slope = self.coefficients.T[:, :, None]
        return floor + scale * z, floor_slope + scale_slope * z


def falling(ratios: Array, eps: Array | float, gamma: Array | float) -> Array:
    """z: the share of what replay can take away that is left at each ratio."""
    return np.asarray((eps / (ratios + eps)) ** gamma)


def fit_curves(ratios: Array, stretch: Array, forgetting: Array, weights: Array) -> Fits:
    """Weighted least squares of B sets of n forgettings (B, n) with C, C' >= 0; the best of every (eps, gamma).

    Raises:
        ValueError: fewer proxies than the curve has coefficients, or only one ratio or one length.
    """
    if len(ratios) <= COEFFICIENTS or len(set(ratios)) < 3 or len(set(stretch)) < 2:
        raise ValueError(
            f"a curve needs more than {COEFFICIENTS} proxies, over at least 3 ratios and 2 lengths"
        )
    sets = len(forgetting)
    best = np.full(sets, np.inf)
    coefficients, eps, gamma = np.zeros((sets, 4)), np.zeros(sets), np.zeros(sets)
    wanted = forgetting * weights  # (B, n)
    for one_eps in EPS:
        for one_gamma in GAMMA:
            z = falling(ratios, one_eps, one_gamma)
            design = np.stack([np.ones_like(z), z, stretch, stretch * z], axis=1) * weights[:, None]  # (n, 4)
            solved, error = _bounded(design, wanted)
            better = error < best
            best[better], coefficients[better] = error[better], solved[better]
            eps[better], gamma[better] = one_eps, one_gamma
    return Fits(coefficients, eps, gamma)


def _bounded(design: Array, wanted: Array) -> tuple[Array, Array]:
    """Least squares with the second and fourth coefficient not below 0: (B, 4), and the squared errors (B,).

    With two bounds the active set is one of four: all are tried.
    """
    best, error = np.zeros((len(wanted), 4)), np.full(len(wanted), np.inf)
    for kept in ((0, 1, 2, 3), (0, 1, 2), (0, 2, 3), (0, 2)):
        part = design[:, kept]
        solved = wanted @ np.linalg.pinv(part).T  # (B, len(kept))
        squares = ((solved @ part.T - wanted) ** 2).sum(axis=1)
        allowed = np.ones(len(wanted), bool)
        for bounded in {1, 3} & set(kept):
            allowed &= solved[:, kept.index(bounded)] >= 0
        better = allowed & (squares < error)
        best[better] = 0.0
        best[np.ix_(better, kept)] = solved[better]
        error[better] = squares[better]
    return best, error


@dataclass(frozen=True)
class Band:
    """Forgetting to be expected of a new training at each ratio, with one-sided bounds."""

    ratios: Array
    estimate: Array
    low: Array
    high: Array
    fit: Fits
    """Of the measured values: one curve."""
    relative_noise: float


def noise_of(forgetting: Array) -> Array:
    """How much one training differs from another, up to a factor that is measured."""
    return np.asarray(NOISE_FLOOR + NOISE_SHARE * np.maximum(forgetting, 0.0))


def forgetting_band(
    measured: Measurements,
    ratios: Array,
    target_tokens: Array,
    confidence: float,
    seed: int,
    resamples: int = RESAMPLES,
) -> Band:
    """Fit the curve, and bound what the whole run would forget at `ratios` (r,) with `target_tokens` (r,) of the domain.

    The bounds are quantiles over resamples of three things at once: documents (groups drawn with replacement), the proxies'
    own chance (noise of the spread that the proxies show around the curve, whose size is itself uncertain with n - 6
    degrees of freedom; each resample is fitted anew), and the chance of the one training that is to come.
    """
    reference = measured.tokens.max()
    stretch, target = np.log(measured.tokens / reference), np.log(target_tokens / reference)
    forgetting = measured.forgetting
    spread = noise_of(forgetting)
    fit = fit_curves(measured.ratios, stretch, forgetting[None], 1 / spread)
    fitted = fit.through(measured.ratios, stretch)[0]
    freedom = len(forgetting) - COEFFICIENTS
    size = float(np.sqrt((((forgetting - fitted) / spread) ** 2).sum() / freedom))
    generator = np.random.default_rng([seed, 2])
    sizes = size * np.sqrt(freedom / generator.chisquare(freedom, resamples))[:, None]
    documents = measured.resampled(seed, resamples) - forgetting
    drawn = fitted + documents + sizes * spread * generator.standard_normal((resamples, len(forgetting)))
    curves = fit_curves(measured.ratios, stretch, drawn, 1 / spread).at(ratios, target)
    new = curves + sizes * noise_of(curves) * generator.standard_normal((resamples, 1))
    low, high = np.quantile(new, [1 - confidence, confidence], axis=0)
    return Band(ratios, fit.at(ratios, target)[0], low, _falling(high), fit, size * NOISE_SHARE)


def _falling(high: Array) -> Array:
    """The least curve above that does not rise: more replay must not be held to be worse than less."""
    return np.asarray(np.maximum.accumulate(high[::-1])[::-1])


def choosable(highest: float) -> Array:
    """Ratios from 0 to the highest that was tried, `STEP` apart."""
    count = int(np.floor(highest / STEP + 1e-9))
    return np.unique(np.append(np.arange(count + 1) * STEP, highest).round(6))


def smallest_ratio(highs: Array, budget: float) -> tuple[int | None, int]:
    """Index of the smallest ratio at which every suite's upper bound (suites, r) meets the budget, and the suite that decided.

    None if there is none: then the suite that comes least near to it. As no bound rises with the ratio, all larger ratios
    meet the budget too.
    """
    meets = np.flatnonzero((highs <= budget).all(axis=0))
    index = int(meets[0]) if len(meets) else None
    deciding = -1 if index is None else max(index - 1, 0)
    return index, int(highs[:, deciding].argmax())
