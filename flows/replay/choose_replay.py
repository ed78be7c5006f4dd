"""`rootstock choose-replay`: short proxy trainings, a curve through what they forgot, the smallest ratio within the budget.

The curve is a step too, named by everything that goes in and not by the budget: asking again, or for another budget, trains
nothing that was trained before.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flows.progress.watch import Watch
from flows.replay.proxies import (
    Call,
    Ground,
    lay_ground,
    list_proxies,
    losses_of,
    proxy_spec,
    require_method_of,
    train_proxy,
)
from schemas.errors import UserError
from schemas.results.replay_choice import CurvePoint, ForgettingCurve, ProxyPoint, ReplayChoice
from schemas.spec.run import RunSpec
from tasks.data.prepare import Prepared
from tasks.evaluation.replay.forgetting_curve import (
    Band,
    Measurements,
    choosable,
    forgetting_band,
    smallest_ratio,
)
from tasks.evaluation.scoring.score_model import assemble_scores, score_model
from tasks.evaluation.suites.items import Suite
from tasks.evaluation.verdict.floor import refuse_floor
from tasks.evaluation.verdict.statistics import paired_difference
from tasks.storage.code import code_version
from tasks.storage.reading import parse_json, read_stored
from tasks.storage.steps import StepPlan, run_step
from tasks.storage.workers import ShardMap, map_in_processes
from tasks.training.models.base_model import BaseModel

KEYED_BY_CONTENT = {"name", "mixture", "promotion", "base", "domain", "replay", "evaluation"}


def with_budget(spec: RunSpec, budget: float | None) -> RunSpec:
    """The specification with a budget in place of its ratio: the one given, its own, or what its verdict allows.

    Raises:
        UserError: the two cannot go together with the rest of the specification.
    """
    from pydantic import ValidationError

    if budget is not None and not 0 < budget < math.inf:
        what = f"--budget is {budget:g}; it must be {'finite' if budget == math.inf else 'above 0'}"
        raise UserError(what, f"--budget={budget:g}", "write nats per token, such as --budget 0.05")
    own = spec.mixture.forgetting_budget
    chosen = next(value for value in (budget, own, spec.promotion.max_forgetting) if value is not None)
    values = spec.model_dump(mode="json")
    values["mixture"] |= {"replay_ratio": None, "forgetting_budget": chosen}
    values["promotion"]["max_forgetting"] = max(chosen, spec.promotion.max_forgetting)
    try:
        return RunSpec.model_validate(values)
    except ValidationError as error:
        told = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
        what, _, fix = told.splitlines()[0].partition("; ")
        where = "mixture" if budget is None else "--budget"
        raise UserError(what, where, fix or "change one of the two") from None


def choose_ratio(
    spec: RunSpec,
    state: Path,
    prepared: Prepared,
    base: BaseModel,
    watch: Watch,
    call: Call,
    map_shards: ShardMap = map_in_processes,
) -> ReplayChoice:
    """Measure the curve as far as it is needed, and choose; `replay_ratio` is None if no ratio meets the budget.

    Raises:
        UserError: see `proxies.lay_ground`, `proxies.list_proxies` and the stages.
    """
    ground = lay_ground(spec, state, prepared, base, call, map_shards)
    ratios = list(ground.proxies.ratios)
    further = list(ground.proxies.further_ratios)
    while True:
        choice = decide_ratio(ground, measure_curves(ground, ratios, watch, call))
        watch.note(choice.sentence)
        if choice.replay_ratio is not None or not further:
            return choice
        ratios.append(further.pop(0))


def require_ratio(choice: ReplayChoice) -> float:
    """The chosen ratio.

    Raises:
        UserError: no ratio meets the budget.
    """
    if choice.replay_ratio is not None:
        return choice.replay_ratio
    raise UserError(
        choice.sentence,
        "mixture.forgetting_budget",
        f"raise the budget above {choice.high:.2g}, lower training.learning_rate or the length of the training, choose a method"
        f" that changes less (such as lora), or add replay text of the kind of {choice.suite}",
    )


def measure_curves(
    ground: Ground, ratios: Sequence[float], watch: Watch, call: Call
) -> list[ForgettingCurve]:
    """Curves of all suites, as one step: known again by everything that goes in, the budget not among it."""
    proxies = list_proxies(ground, ratios)
    spec = ground.spec
    plan = StepPlan(
        root=ground.state,
        name="forgetting-curve",
        inputs=ground.key,
        settings=[
            # sources by their content (in `key`), not by their paths: the base's own text lies in the state folder
            spec.model_dump(mode="json", exclude=KEYED_BY_CONTENT),
            [source.weight for source in spec.replay],
            spec.mixture.model_dump(exclude={"replay_ratio", "forgetting_budget", "proxies"}),
            spec.promotion.confidence,
            [[proxy.replay_ratio, proxy.domain_tokens, proxy.number] for proxy in proxies],
            ground.base.reference,
        ],
        code=code_version(__name__),
    )

    def work(folder: Path) -> dict[str, Any]:
        require_method_of(ground, min(proxies, key=lambda proxy: proxy.domain_tokens), call)
        base = call(score_model, ground.state, spec, ground.suites, ground.base.folder, on_progress=None)
        refuse_floor(assemble_scores(ground.suites, {"base": base}, ground.special.vocab_size))
        before = losses_of(ground, base)
        results = [
            (proxy, *train_proxy(ground, proxy, watch, call, f"proxy {number} of {len(proxies)}"))
            for number, proxy in enumerate(proxies, 1)
        ]
        highest = max(ratios)
        curves = [
            _curve(ground, number, suite, before[number], results, highest)
            for number, suite in enumerate(ground.suites)
        ]
        (folder / "curves.json").write_text(
            json.dumps([curve.model_dump(mode="json") for curve in curves], indent=1)
        )
        return {"proxies": len(proxies)}

    step = run_step(plan, work)
    return [
        ForgettingCurve.model_validate(value)
        for value in parse_json(read_stored(step.folder / "curves.json"))
    ]


def _curve(
    ground: Ground, number: int, suite: Suite, before: Any, results: Sequence[tuple[Any, ...]], highest: float
) -> ForgettingCurve:
    """The curve of one suite through what every proxy forgot of it."""
    confidence, seed = ground.spec.promotion.confidence, ground.spec.training.seed
    groups = [item.group for item in suite.items]
    tokens = np.array([item.labels for item in suite.items])
    names, cluster = np.unique(groups, return_inverse=True)
    after = np.array([losses[number] for _, _, losses in results])  # (n, documents)
    differences = np.zeros((len(results), len(names)))
    np.add.at(differences.T, cluster, (after - before).T)
    reports = [report for _, report, _ in results]
    measured = Measurements(
        ratios=np.array([report.achieved_ratio for report in reports]),
        tokens=np.array([float(report.domain_tokens) for report in reports]),
        differences=differences,
        sizes=np.bincount(cluster, tokens).astype(float),
    )
    ratios = choosable(highest)
    band = forgetting_band(measured, ratios, ground.target_tokens(ratios), confidence, seed)
    errors = [paired_difference(before, one, tokens, groups, confidence).standard_error for one in after]
    points = tuple(
        ProxyPoint(
            replay_ratio=report.achieved_ratio, domain_tokens=report.domain_tokens, replay_tokens=report.replay_tokens,
            steps=report.steps, seed=proxy_spec(ground.spec, proxy).training.seed, forgetting=value, standard_error=error,
        )
        for (proxy, report, _), value, error in zip(results, measured.forgetting.tolist(), errors, strict=True)
    )  # fmt: skip
    floor, scale, floor_slope, scale_slope = band.fit.coefficients[0].tolist()
    return ForgettingCurve(
        suite=suite.name, documents=len(suite.items), clusters=len(names), tokens=int(tokens.sum()),
        floor=floor, scale=scale, eps=float(band.fit.eps[0]), gamma=float(band.fit.gamma[0]),
        floor_slope=floor_slope, scale_slope=scale_slope, reference_tokens=int(measured.tokens.max()),
        relative_noise=band.relative_noise, points=points, band=_points(band),
    )  # fmt: skip


def _points(band: Band) -> tuple[CurvePoint, ...]:
    rows = zip(
        band.ratios.tolist(), band.estimate.tolist(), band.low.tolist(), band.high.tolist(), strict=True
    )
    return tuple(CurvePoint(replay_ratio=r, estimate=e, low=low, high=high) for r, e, low, high in rows)


def decide_ratio(ground: Ground, curves: Sequence[ForgettingCurve]) -> ReplayChoice:
    """The smallest ratio at which every suite's upper bound meets the budget."""
    budget = ground.spec.mixture.forgetting_budget
    assert budget is not None
    highs = np.array([[point.high for point in curve.band] for curve in curves])
    index, suite = smallest_ratio(highs, budget)
    at = -1 if index is None else index
    point = curves[suite].band[at]
    return ReplayChoice(
        budget=budget,
        confidence=ground.spec.promotion.confidence,
        replay_ratio=None if index is None else point.replay_ratio,
        suite=curves[suite].suite,
        estimate=point.estimate,
        high=point.high,
        domain_tokens=int(ground.target_tokens(point.replay_ratio)),
        curves=tuple(curves),
    )
