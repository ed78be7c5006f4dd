"""The prior of a measured shift: nothing is trained, the base scores the domain and the suites once.

What lies outside of what the prior was calibrated on is refused: a curve says nothing beyond its points.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from flows.proxies import Call, Ground, losses_of
from schemas.errors import UserError, UserErrors
from schemas.replay_choice import CurvePoint, ShiftCurve
from schemas.run import RunSpec
from schemas.shift_calibration import Measure, ShiftCalibration
from tasks.evaluation.floor import refuse_floor
from tasks.evaluation.forgetting_curve import choosable
from tasks.evaluation.items import Suite
from tasks.evaluation.shift import SAMPLE_TOKENS, Shift, measure_shift
from tasks.evaluation.shift_prior import prior_band
from tasks.evaluation.suites import assemble_scores, build_domain_sample, score_model
from tasks.training.models.weights import count_stored
from tasks.training.schedules import mean_factor

FIX = "choose by proxies, which measure: mixture.choose_by: proxies, or --by proxies"
NAMES: dict[Measure, tuple[str, str]] = {
    "learning_rate": ("mean learning rate over the schedule", "training.learning_rate"),
    "domain_tokens": ("domain tokens of the run", "training"),
    "batch_tokens": ("tokens per optimizer step", "training.batch_tokens"),
    "parameters": ("parameters of the base", "base"),
    "loss_gap": ("base's loss on the domain minus that on the suite", "domain"),
    "divergence": ("divergence of tokens between the domain and the suite", "domain"),
}
SLACK = 1e-6
"""Of a range: a value that was calibrated on is inside, however it was rounded."""


def predict_curves(ground: Ground, calibration: ShiftCalibration, call: Call) -> list[ShiftCurve]:
    """What the whole run is expected to forget of every suite at each ratio.

    Raises:
        UserError: the run, its base or its shift lie outside the calibration; a suite is at its floor.
    """
    spec = ground.spec
    facts = facts_of_run(spec, ground.whole, count_stored(ground.base.folder))
    refuse_uncalibrated(spec, facts, calibration)
    ratios = choosable(calibration.ranges["replay_ratio"].high)
    # fewer domain tokens than were calibrated on must not promise less forgetting
    tokens = np.maximum(ground.target_tokens(ratios), calibration.ranges["domain_tokens"].low)
    steps = tokens / spec.training.batch_tokens
    shifts = measure_shifts(ground, call)
    refuse_far(shifts, calibration)
    curves = []
    for suite, shift in shifts:
        band = prior_band(
            calibration, shift, facts["learning_rate"], steps, ratios, spec.promotion.confidence
        )
        rows = zip(ratios, band.estimate, band.low, band.high, strict=True)
        curves.append(
            ShiftCurve(
                suite=suite.name,
                documents=len(suite.items),
                tokens=sum(item.labels for item in suite.items),
                loss_gap=shift.loss_gap,
                divergence=shift.divergence,
                band=tuple(CurvePoint(replay_ratio=r, estimate=e, low=low, high=high) for r, e, low, high in rows),
            )
        )  # fmt: skip
    return curves


def measure_shifts(ground: Ground, call: Call) -> list[tuple[Suite, Shift]]:
    """The shift from the domain to the development part of every suite; two scorings under the base.

    Raises:
        UserErrors: a suite is at its floor.
    """
    sample = build_domain_sample(ground.spec, ground.prepared, ground.tokenized, SAMPLE_TOKENS)
    scored = [
        call(score_model, ground.state, ground.spec, suites, ground.base.folder, on_progress=None)
        for suites in (ground.suites, [sample])
    ]
    vocab_size = ground.special.vocab_size
    refuse_floor(assemble_scores(ground.suites, {"base": scored[0]}, vocab_size))
    nats = np.load(scored[1].folder / "nats-0.npy")
    return [
        (suite, measure_shift(sample.items, nats, suite.items, before, vocab_size))
        for suite, before in zip(ground.suites, losses_of(ground, scored[0]), strict=True)
    ]


def facts_of_run(spec: RunSpec, whole: tuple[int, int], parameters: int) -> dict[Measure, float]:
    """What the prior is asked about, known before anything is scored; `whole`: domain and label tokens without replay."""
    training = spec.training
    steps = max(1, round(whole[1] / training.batch_tokens))
    return {
        "learning_rate": training.learning_rate * mean_factor(training, steps),
        "domain_tokens": whole[0],
        "batch_tokens": training.batch_tokens,
        "parameters": parameters,
    }


def refuse_uncalibrated(spec: RunSpec, facts: Mapping[Measure, float], calibration: ShiftCalibration) -> None:
    """Refuse a run unlike those that were calibrated on.

    Raises:
        UserErrors: one for each thing that is unlike.
    """
    method, objective = spec.method.kind, spec.objective.kind
    unlike: list[tuple[bool, str, str]] = [
        (method not in calibration.methods, f"method '{method}'", "method.kind"),
        (objective != "language_modeling", f"objective '{objective}'", "objective.kind"),
        (bool(spec.remedies), "remedies", "remedies"),
        (spec.mixture.importance is not None, "replay chosen by importance", "mixture.importance"),
        (spec.increments is not None or spec.increment is not None, "increments", "increments"),
        (spec.base_from is not None, "a base that was tuned before", "base_from"),
    ]
    errors = [
        UserError(f"the prior of the shift was not calibrated with {what}", where, FIX)
        for is_unlike, what, where in unlike
        if is_unlike
    ]
    errors += [error for name, value in facts.items() if (error := _outside(name, value, calibration))]
    if errors:
        raise UserErrors(errors)


def refuse_far(shifts: list[tuple[Suite, Shift]], calibration: ShiftCalibration) -> None:
    """Refuse a shift unlike those that were calibrated on.

    Raises:
        UserErrors: one for each measure of each suite that is outside.
    """
    values: list[tuple[Suite, Measure, float]] = [
        *((suite, "loss_gap", shift.loss_gap) for suite, shift in shifts),
        *((suite, "divergence", shift.divergence) for suite, shift in shifts),
    ]
    errors = [
        error
        for suite, name, value in values
        if (error := _outside(name, value, calibration, f"domain, suite '{suite.name}'"))
    ]
    if errors:
        raise UserErrors(errors)


def _outside(
    name: Measure, value: float, calibration: ShiftCalibration, where: str | None = None
) -> UserError | None:
    known = calibration.ranges[name]
    slack = SLACK * max(abs(known.low), abs(known.high))
    if known.low - slack <= value <= known.high + slack:
        return None
    what, key = NAMES[name]
    return UserError(
        f"the {what} is {value:,.4g}; the prior of the shift was calibrated from {known.low:,.4g} to {known.high:,.4g}",
        where or key,
        FIX,
    )


def cost_of_shift(ground_tokens: int) -> str:
    """What choosing by shift takes, in words; `ground_tokens` are those of the suites' development parts."""
    return (
        f"no trainings: the base scores at most {SAMPLE_TOKENS:,} tokens of the domain and {ground_tokens:,} of the general"
        " suites once (experimental: predicted from other bases, not measured on this one)"
    )


def table_of(curves: tuple[ShiftCurve, ...]) -> list[dict[str, Any]]:
    """Rows that show what the prior saw."""
    return [
        {
            "suite": curve.suite,
            "loss gap": f"{curve.loss_gap:+.3f}",
            "divergence": f"{curve.divergence:.3f}",
            "expected without replay": f"{curve.band[0].estimate:.3f} (bound {curve.band[0].high:.3f})",
        }
        for curve in curves
    ]
