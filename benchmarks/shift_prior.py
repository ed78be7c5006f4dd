"""Does the measured shift of a domain predict how much is forgotten, on a base and domain that were left out?

    python -m benchmarks.shift_prior          (needs ROOTSTOCK_DATA; resumable, one process, about 12 core-minutes)

Short trainings of the pairs in `shift_pairs` at several replay ratios, learning rates and lengths. The prior of the shift is
fitted to all pairs but one, and predicts that one: with the loss gap, with the divergence, with both, and with neither.
Writes results/shift_prior.json and .md, and the calibration that the product reads.

Then the check: for the bundled base and for the stories rig, the ratio that the prior gives for a budget with that pair left
out, and what trainings of other seeds at that ratio forget.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import measure
from benchmarks.shift_page import table
from benchmarks.shift_pairs import STATE, Pair, here, list_pairs, write_texts
from data_contracts.contract import list_contracts
from flows.choose_replay import decide_ratio, with_budget
from flows.effective import with_ratio
from flows.propose_replay import call_plainly
from flows.proxies import lay_ground
from flows.shift_prior import predict_curves
from flows.training_inputs import training_inputs
from flows.watch import Silent
from schemas.load import load_spec
from schemas.run import RunSpec
from schemas.shift_calibration import Feature, Measure, Range, ShiftCalibration
from tasks.data.prepare import prepare, tokenize
from tasks.evaluation.shift_prior import (
    CALIBRATION,
    NOISE_NATS,
    Trainings,
    fit_prior,
    in_logs,
    left_out_residuals,
    spread_of,
)
from tasks.evaluation.suites import build_suites, score_model
from tasks.training.models.base_model import provide_base
from tasks.training.models.weights import count_stored
from tasks.training.train import train

COMMAND = "python -m benchmarks.shift_prior"
CELLS = STATE / "cells.json"
LIBRARIES = ("torch", "transformers", "numpy", "scipy")
VARIANTS: dict[str, tuple[Feature, ...]] = {
    "neither (the shift is ignored)": (),
    "loss gap": ("loss_gap",),
    "divergence": ("divergence",),
    "loss gap and divergence": ("loss_gap", "divergence"),
}
USED = "loss gap and divergence"
"""Was fixed before anything was measured: choosing the best of four on 13 pairs would flatter it."""
ROOM = 0.1
"""Another sample of the same text measures a shift that differs a little; learning rate and length are exact."""
VOCABULARY = {"bundled": 5120, "stories": 512}
"""A base whose loss on a domain is above the logarithm of this guesses worse than by chance: it cannot spell the text."""
CONFIDENCE, RESAMPLES, SEEDS = 0.95, 2000, (401, 402)
BUDGETS = (0.10, 0.30)
CHECKS: dict[str, tuple[str, str, list[str]]] = {
    "stories rig": ("stories, shakespeare", "runs/stories_forgetting.yaml", [
            "training.steps=148", "promotion.max_forgetting=1",
        ]),
    "bundled base": (
        "bundled, medicine",
        "runs/quickstart.yaml",
        [
            f'domain=[{{path: "{STATE}/text/medicine.jsonl", contract: domain_text}}]',
            f'evaluation.general=[{{path: "{STATE}/text/english.jsonl", contract: general_text}}]',
            "training.epochs=null", "training.tokens=15000", "training.sequence_length=128",
            "training.micro_batch_tokens=null", "training.batch_tokens=1024", "promotion.max_forgetting=1",
        ],
    ),
}  # fmt: skip
"""Name -> the pair that is left out, the run, and what is changed in it."""


class Cells:
    """Every number that was measured, kept in a file."""

    def __init__(self) -> None:
        STATE.mkdir(parents=True, exist_ok=True)
        self.known: dict[str, Any] = json.loads(CELLS.read_bytes()) if CELLS.is_file() else {}

    def get(self, name: str, work: Any) -> Any:
        """The value of this name; `work()` is done once."""
        if name not in self.known:
            self.known[name] = work()
            CELLS.write_text(json.dumps(self.known))
            print(name, self.known[name], flush=True)
        return self.known[name]


def shifts_of(pair: Pair) -> dict[str, Any]:
    """Suite -> its measured shift, and the size of the base."""
    ground = pair.ground
    return {suite.name: asdict(shift) for suite, shift in zip(ground.suites, ground.shifts(), strict=True)}


def measure_all(cells: Cells) -> list[dict[str, Any]]:
    """A row for every training and suite."""
    rows = []
    for pair in list_pairs():
        shifts = cells.get(pair.name, lambda pair=pair: shifts_of(pair))
        for setting in pair.settings:
            for ratio in setting.ratios:
                spec = pair.spec(setting, ratio)
                name = f"{pair.name}, {setting.name}, {ratio:g}"
                cell = cells.get(name, lambda pair=pair, spec=spec: pair.ground.train(spec))
                rows += [
                    {
                        "pair": pair.name, "base": pair.base, "domain": pair.domain, "suite": suite, **shifts[suite],
                        **{key: value for key, value in cell.items() if key != "forgetting"}, "forgetting": forgotten,
                    }
                    for suite, forgotten in cell["forgetting"].items()
                ]  # fmt: skip
    return rows


def as_trainings(rows: list[dict[str, Any]]) -> Trainings:
    """The rows as arrays."""

    def column(name: str) -> Any:
        return np.array([row[name] for row in rows])

    return Trainings(
        pairs=column("pair"),
        loss_gaps=column("loss_gap"),
        divergences=column("divergence"),
        rates=column("mean_learning_rate"),
        steps=column("domain_tokens") / column("batch_tokens"),
        ratios=column("replay_ratio"),
        forgetting=column("forgetting"),
    )


def spelt(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows whose domain the base can spell: decided after one pair was seen to lie 20 nats from all others.

    Only these calibrate the product; whether the shift helps is said from all rows.
    """
    return [row for row in rows if row["loss_gap"] <= np.log(VOCABULARY[row["base"]])]


def compare(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every variant: errors on pairs and on bases that were left out, and how often a 95 % bound held."""
    trainings, bases = as_trainings(rows), np.array([row["base"] for row in rows])
    found = []
    for name, features in VARIANTS.items():
        residuals = left_out_residuals(trainings, features)
        prior = fit_prior(trainings, features)
        names = ["intercept", *features, "rate", "length"]
        found.append(
            {
                "variant": name,
                "coefficients": dict(zip(names, prior.coefficients.tolist(), strict=True)),
                "eps": prior.eps,
                "gamma": prior.gamma,
                "in_sample": spread_of(_in_sample(trainings, features), trainings.pairs),
                "left_out": spread_of(residuals, trainings.pairs),
                "left_out_base": spread_of(left_out_residuals(trainings, features, bases), trainings.pairs),
                "gain": gain_of(trainings, features),
                "bound_held": _held(residuals, trainings.pairs),
            }
        )
    return found


def gain_of(trainings: Trainings, features: tuple[Feature, ...]) -> dict[str, float]:
    """By how much the error on pairs left out is smaller than without the shift; bounds over pairs, each one-sided 95 %."""
    pairs = np.unique(trainings.pairs)
    squares = np.array(
        [
            [np.mean(one[trainings.pairs == pair] ** 2) for pair in pairs]
            for one in (left_out_residuals(trainings, ()), left_out_residuals(trainings, features))
        ]
    )  # (2, pairs)
    draws = np.random.default_rng(1).integers(0, len(pairs), (RESAMPLES, len(pairs)))
    errors = np.sqrt(squares[:, draws].mean(axis=2))  # (2, RESAMPLES)
    low, high = np.quantile(errors[0] - errors[1], [1 - CONFIDENCE, CONFIDENCE])
    ignored, known = np.sqrt(squares.mean(axis=1))
    better = int((squares[1] < squares[0]).sum())
    return {
        "estimate": float(ignored - known), "low": float(low), "high": float(high), "better": better, "of": len(pairs),
    }  # fmt: skip


def _in_sample(trainings: Trainings, features: tuple[Feature, ...]) -> Any:
    return in_logs(trainings.forgetting) - in_logs(fit_prior(trainings, features).at(trainings))


def _held(residuals: Any, pairs: Any) -> float:
    """Share of trainings, every pair alike, below the bound whose spread comes from the other pairs."""
    from scipy.special import stdtrit

    shares = []
    for pair in np.unique(pairs):
        own = pairs == pair
        others = spread_of(residuals[~own], pairs[~own])
        bound = stdtrit(len(np.unique(pairs)) - 2, CONFIDENCE) * others
        shares.append(np.mean(residuals[own] <= bound))
    return float(np.mean(shares))


def calibrate(rows: list[dict[str, Any]], parameters: dict[str, int]) -> ShiftCalibration:
    """The calibration of these rows."""
    every, rows = as_trainings(rows), spelt(rows)
    trainings = as_trainings(rows)
    features = VARIANTS[USED]
    prior = fit_prior(trainings, features)
    spreads = [spread_of(left_out_residuals(trainings, used), trainings.pairs) for used in (features, ())]
    bases = np.array([row["base"] for row in rows])
    values: dict[Measure, Any] = {
        "learning_rate": trainings.rates,
        "domain_tokens": [row["domain_tokens"] for row in rows],
        "batch_tokens": [row["batch_tokens"] for row in rows],
        "parameters": [parameters[row["base"]] for row in rows],
        "loss_gap": trainings.loss_gaps,
        "divergence": trainings.divergences,
        "replay_ratio": np.round(trainings.ratios, 2),
    }
    intercept, *slopes, rate, length = prior.coefficients.tolist()
    return ShiftCalibration(
        bases=tuple(dict.fromkeys(row["base"] for row in rows)),
        domains=tuple(dict.fromkeys(row["domain"] for row in rows)),
        pairs=len(np.unique(trainings.pairs)),
        trainings=len({(row["pair"], row["mean_learning_rate"], row["domain_tokens"], row["replay_ratio"]) for row in rows}),
        methods=("full",),
        ranges={name: _range(one, ROOM if name in ("loss_gap", "divergence") else 0.0) for name, one in values.items()},
        intercept=intercept,
        slopes=dict(zip(features, slopes, strict=True)),
        rate=rate,
        length=length,
        eps=prior.eps,
        gamma=prior.gamma,
        noise_nats=NOISE_NATS,
        spread=spreads[0],
        spread_without_shift=spreads[1],
        spread_of_base=spread_of(left_out_residuals(trainings, features, bases), trainings.pairs),
        gain_low=gain_of(every, features)["low"],
    )  # fmt: skip


def _range(values: Any, room: float) -> Range:
    """From the least to the largest, and a share of that on both sides."""
    low, high = float(min(values)), float(max(values))
    return Range(low=low - room * (high - low), high=high + room * (high - low))


def check(cells: Cells, rows: list[dict[str, Any]], parameters: dict[str, int]) -> list[dict[str, Any]]:
    """What the prior chooses for a pair that it has not seen, and what is then forgotten."""
    found = []
    for name, (left_out, file, overrides) in CHECKS.items():
        spec = load_spec(measure.ROOT / file, overrides, list_contracts())
        calibration = calibrate([row for row in rows if row["pair"] != left_out], parameters)
        # the ranges are those of the product: the curve and its bound have not seen the pair
        calibration = calibration.model_copy(update={"ranges": calibrate(rows, parameters).ranges})
        asked = with_budget(spec, BUDGETS[0], "shift")
        prepared = prepare(STATE, asked, map_shards=here, note=Silent().note)
        base = provide_base(STATE, asked, prepared, None)
        ground = lay_ground(asked, STATE, prepared, base, call_plainly, here)
        curves = predict_curves(ground, calibration, call_plainly)
        for budget in BUDGETS:
            own = type(ground)(
                with_budget(spec, budget, "shift"), STATE, prepared, base, ground.tokenized, ground.suites, ground.key,
                ground.whole,
            )  # fmt: skip
            choice = decide_ratio(own, curves, calibration)
            found.append({"name": name, "left_out": left_out, "budget": budget, "estimate": choice.estimate,
                          "high": choice.high, "replay_ratio": choice.replay_ratio, "sentence": choice.sentence,
                          "tried": choice.shift_curves[0].band[-1].replay_ratio, "forgotten": []})  # fmt: skip
            ratio = found[-1]["tried"] if choice.replay_ratio is None else choice.replay_ratio
            for seed in SEEDS:
                key = f"check {name}, {ratio:g}, seed {seed}"
                found[-1]["forgotten"].append(
                    cells.get(key, lambda r=ratio, s=seed, b=base, p=prepared, a=asked: _forgets(a, p, b, r, s))
                )  # fmt: skip
    return found


def _forgets(spec: RunSpec, prepared: Any, base: Any, ratio: float, seed: int) -> float:
    """Largest forgetting of the suites' verdict parts after a training of this ratio and seed, in nats per token."""
    training = spec.training.model_copy(update={"seed": seed})
    trained_as = with_ratio(spec, ratio).model_copy(update={"training": training})
    tokenized = tokenize(STATE, trained_as, prepared, base.folder, map_shards=here, note=Silent().note)
    inputs = training_inputs(trained_as, base, prepared, tokenized)
    model = train(STATE, trained_as, inputs).folder / "model"
    suites = [suite for suite in build_suites(spec, prepared, tokenized) if suite.kind == "general"]
    before, after = (score_model(STATE, spec, suites, folder) for folder in (base.folder, model))
    return max(
        float((np.load(after.folder / f"nats-{n}.npy") - np.load(before.folder / f"nats-{n}.npy")).sum())
        / sum(item.labels for item in suite.items)
        for n, suite in enumerate(suites)
    )


def main() -> None:
    """Train what is missing, fit, check, and write the results and the calibration."""
    import torch

    torch.set_num_threads(1)
    cells = Cells()
    write_texts()
    rows = measure_all(cells)
    parameters = {
        pair.base: cells.get(
            f"parameters of {pair.base}", lambda pair=pair: count_stored(pair.ground.base.folder)
        )
        for pair in list_pairs()
    }
    calibration = calibrate(rows, parameters)
    Path(CALIBRATION).write_text(calibration.model_dump_json(indent=1) + "\n")
    result = {
        "command": COMMAND,
        "machine": measure.describe_machine(LIBRARIES),
        "variants": compare(rows),
        "variants_spelt": compare(spelt(rows)),
        "calibration": calibration.model_dump(mode="json"),
        "checks": check(cells, rows, parameters),
        "rows": rows,
    }
    measure.write_results("shift_prior", result, table(result))


if __name__ == "__main__":
    main()
