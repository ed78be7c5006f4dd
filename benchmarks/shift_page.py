"""The page of benchmarks.shift_prior."""

from typing import Any

import numpy as np

from benchmarks import measure
from schemas.shift_calibration import ShiftCalibration
from tasks.evaluation.shift_prior import NOISE_NATS


def table(result: dict[str, Any]) -> list[str]:
    """The results in Markdown."""
    rows, calibration = result["rows"], ShiftCalibration.model_validate(result["calibration"])
    lines = [
        "# A prior of the replay ratio from the measured shift",
        "",
        *measure.machine_lines(result["machine"], result["command"]),
        "",
        f"{len(rows)} forgettings of general suites. Errors are root mean squares of differences in ln(forgetting +"
        f" {NOISE_NATS:g} nats), every pair of base and domain alike; 0.69 is a factor of 2. Bounds are one-sided 95 %, over pairs.",
        "",
        "## All pairs",
        "",
        *_compared(result["variants"]),
        "",
        "## Pairs whose base can spell the domain",
        "",
        "Decided after the measurement: on Chinese law the base stories guesses worse than by chance, 20 nats from all other pairs."
        f" The other {calibration.pairs} pairs ({calibration.trainings} trainings) calibrate the product, which refuses such a domain.",
        "",
        *_compared(result["variants_spelt"]),
    ]
    lines += ["", "## Check: the ratio that the prior gives, with that pair left out", ""]
    lines += [
        "| run | budget | ratio | expected | bound | forgotten by two trainings of other seeds | within the budget |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in result["checks"]:
        ratio = f"none (at {one['tried']:g})" if one["replay_ratio"] is None else f"{one['replay_ratio']:g}"
        within = sum(value <= one["budget"] for value in one["forgotten"])
        lines.append(
            f"| {one['name']} | {one['budget']:g} | {ratio} | {one['estimate']:.3f} | {one['high']:.3f} |"
            f" {', '.join(f'{value:+.3f}' for value in one['forgotten'])} | {within} of {len(one['forgotten'])} |"
        )
    lines += [
        "",
        "## Pairs",
        "",
        "| pair | suite | loss gap | divergence | forgotten without replay | with half |",
    ]
    lines.append("|---|---|---|---|---|---|")
    seen: dict[tuple[str, str], dict[float, list[float]]] = {}
    shifts = {}
    for row in rows:
        key = (row["pair"], row["suite"])
        shifts[key] = row["loss_gap"], row["divergence"]
        seen.setdefault(key, {}).setdefault(round(row["replay_ratio"], 2), []).append(row["forgetting"])
    for (pair, suite), values in seen.items():
        gap, divergence = shifts[pair, suite]
        told = [", ".join(f"{value:+.2f}" for value in values.get(ratio, [])) for ratio in (0.0, 0.5)]
        lines.append(f"| {pair} | {suite} | {gap:+.2f} | {divergence:.2f} | {told[0]} | {told[1]} |")
    return lines


def _compared(variants: list[dict[str, Any]]) -> list[str]:
    """What came out, and a row for each variant; the first ignores the shift, the last is what the product uses."""
    ignored, *_, used = variants
    gain = used["gain"]
    verdict = "The shift helps" if gain["low"] > 0 else "The shift is not shown to help"
    lines = [
        f"**{verdict}** on pairs that were left out: the error is {used['left_out']:.2f} (a factor of"
        f" {np.exp(used['left_out']):.1f}) with loss gap and divergence, {ignored['left_out']:.2f} (a factor of"
        f" {np.exp(ignored['left_out']):.1f}) without.",
        f"On bases that were left out it is {used['left_out_base']:.2f} with, {ignored['left_out_base']:.2f} without.",
        "",
        "| what the curve knows of the shift | error in the fit | pair left out | base left out | smaller than ignoring it by | in pairs | 95 % bound held |",
        "|---|---|---|---|---|---|---|",
    ]
    return lines + [
        f"| {v['variant']} | {v['in_sample']:.2f} | {v['left_out']:.2f} | {v['left_out_base']:.2f} |"
        f" {v['gain']['estimate']:+.2f} ({v['gain']['low']:+.2f} to {v['gain']['high']:+.2f}) | {v['gain']['better']} of"
        f" {v['gain']['of']} | {v['bound_held']:.0%} |"
        for v in variants
    ]
