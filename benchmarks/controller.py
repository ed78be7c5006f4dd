"""Does a controller that changes the replay ratio while training beat a fixed ratio?

    python -m benchmarks.controller          (needs ROOTSTOCK_DATA; resumable, one process, about 10 minutes on one core)

On the stories rig, at equal domain tokens: a PI controller (`ratio_controller`) that probes general text every few steps,
against fixed ratios, against the ratio that `choose-replay` chooses for the budget, and against a fixed ratio of just the replay
tokens that the controller used in that seed. All sides run the same loop (`controller_loop`); checked first: a controller held
at a ratio trains the same weights as that fixed ratio. The probe's documents are those of the development part, other
documents judge. Writes results/controller.json and .md.
"""

import hashlib
import json
from typing import Any

import numpy as np

from benchmarks import measure
from benchmarks.controller_loop import PROBE_EVERY, Ground, losses, mean_loss, train
from benchmarks.ratio_controller import RatioController
from benchmarks.replay_choice import difference
from data_contracts.contract import list_contracts
from flows.growing.effective import with_ratio
from flows.progress.watch import Console
from flows.replay.choose_replay import choose_ratio, with_budget
from flows.replay.propose_replay import call_plainly
from schemas.reading.load import load_spec
from schemas.spec.run import RunSpec
from tasks.data.prepare import prepare, tokenize
from tasks.evaluation.suites.build import build_development, build_suites
from tasks.evaluation.suites.items import Suite
from tasks.training.models.base_model import provide_base
from tasks.training.models.load import load_base

COMMAND = "python -m benchmarks.controller"
SPEC = "runs/stories_forgetting.yaml"
OVERRIDES = ["training.steps=null", "training.epochs=0.19", "evaluation.max_tokens=40000"]
STATE = measure.ROOT / ".rootstock" / "controller"
CELLS = STATE / "cells.json"

BUDGETS = (0.10, 0.20)
FIXED = (0.05, 0.1, 0.25, 0.5)
SEEDS = (301, 302, 303, 304, 305)
PROBE_TOKENS = 5_000
CHOSEN = "choose-replay"
HELD = 0.25
"""Ratio at which both sides are compared first."""


class Bench:
    """The specification's data, base and suites; trainings are kept in a file."""

    def __init__(self) -> None:
        STATE.mkdir(parents=True, exist_ok=True)
        spec = load_spec(measure.ROOT / SPEC, OVERRIDES, list_contracts())
        self.asked: dict[float, RunSpec] = {budget: with_budget(spec, budget) for budget in BUDGETS}
        self.prepared = prepare(STATE, spec)
        self.base = provide_base(STATE, spec, self.prepared, None)
        tokenized = tokenize(STATE, with_ratio(spec, 0.0), self.prepared, self.base.folder)
        asked = self.asked[BUDGETS[0]]
        self.domain, self.general = build_suites(asked, self.prepared, tokenized)
        probe, tokens = [], 0
        for item in build_development(asked, self.prepared, tokenized)[0].items:
            if tokens < PROBE_TOKENS:
                probe.append(item)
                tokens += item.labels
        domain_tokens = tokenized.mixture.domain_tokens
        ground = Ground(spec, self.base.folder, self.prepared, tokenized, domain_tokens, probe, 0.0)
        model = load_base(self.base.folder)
        self.ground = Ground(
            spec, self.base.folder, self.prepared, tokenized, domain_tokens, probe,
            mean_loss(ground, model, probe),
        )  # fmt: skip
        self.base_nats = {s.name: losses(self.ground, model, s.items) for s in (self.domain, self.general)}
        self.cells: dict[str, Any] = json.loads(CELLS.read_bytes()) if CELLS.is_file() else {}

    def cell(self, name: str, seed: int, ratio: float | RatioController) -> dict[str, Any]:
        """One training, judged; done once."""
        key = f"{name}, seed {seed}"
        if key not in self.cells:
            model, told = train(self.ground, seed, ratio)
            digest = hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in model.parameters()))
            nats = {s.name: losses(self.ground, model, s.items) for s in (self.domain, self.general)}
            self.cells[key] = {**vars(told), "weights": digest.hexdigest(), "nats": nats}
            CELLS.write_text(json.dumps(self.cells))
            cell = self.cells[key]
            print(
                f"{key}: replay {achieved(cell):.3f}, forgets {self.forgetting(cell):+.3f},"
                f" domain {self.rise(self.domain, cell):+.3f}, {told.seconds:.0f} s",
                flush=True,
            )
        return self.cells[key]

    def rise(self, suite: Suite, cell: dict[str, Any]) -> float:
        """How much higher than the base's the loss is, in nats per token."""
        tokens = sum(item.labels for item in suite.items)
        return (sum(cell["nats"][suite.name]) - sum(self.base_nats[suite.name])) / tokens

    def forgetting(self, cell: dict[str, Any]) -> float:
        return self.rise(self.general, cell)

    def chosen(self, budget: float) -> float | None:
        """The ratio that `choose-replay` chooses on the development part."""
        key = f"chosen for {budget}"
        if key not in self.cells:
            asked = self.asked[budget]
            choice = choose_ratio(asked, STATE, self.prepared, self.base, Console(), call_plainly)
            self.cells[key] = choice.replay_ratio
            CELLS.write_text(json.dumps(self.cells))
        return self.cells[key]


def achieved(cell: dict[str, Any]) -> float:
    """Share of replay among the label tokens that were trained."""
    return cell["replay_tokens"] / (cell["replay_tokens"] + cell["domain_tokens"])


def check_held(bench: Bench) -> dict[str, Any]:
    """A controller that cannot leave a ratio must train what the fixed ratio trains.

    Raises:
        SystemExit: it does not: the two sides could not be compared.
    """
    fixed = bench.cell(f"fixed {HELD}", SEEDS[0], HELD)
    held = RatioController(budget=1e9, start=HELD, least=HELD, most=HELD)
    frozen = bench.cell(f"held at {HELD}", SEEDS[0], held)
    if fixed["weights"] != frozen["weights"] or fixed["nats"] != frozen["nats"]:
        raise SystemExit("a controller held at a ratio does not train what the fixed ratio trains")
    return {"ratio": HELD, "probes": len(frozen["probes"]), "same_weights": True}


def side(
    bench: Bench, name: str, cells: list[dict[str, Any]], budget: float | None, controlled: Any = None
) -> dict[str, Any]:
    """A row: means over seeds, and the controller paired with it."""

    def between(suite: Suite, old: list[Any], new: list[Any]) -> dict[str, float]:
        return difference(suite, [c["nats"][suite.name] for c in old], [c["nats"][suite.name] for c in new])

    base = [{"nats": bench.base_nats}] * len(cells)
    row = {
        "name": name,
        "achieved": [achieved(cell) for cell in cells],
        "domain_tokens": [cell["domain_tokens"] for cell in cells],
        "replay_tokens": [cell["replay_tokens"] for cell in cells],
        "forgetting": between(bench.general, base, cells),
        "forgetting_by_seed": [bench.forgetting(cell) for cell in cells],
        "domain": between(bench.domain, base, cells),
        "cuts": [
            sum(a[3] != b[3] for a, b in zip(c["probes"], c["probes"][1:], strict=False)) for c in cells
        ],
        "stopped": sum(cell["stopped"] for cell in cells),
        "within": sum(bench.forgetting(cell) <= budget for cell in cells) if budget else None,
        "probe_share": float(np.mean([cell["probe_seconds"] / cell["seconds"] for cell in cells])),
    }
    if controlled is not None:
        row["controller_forgets_more"] = between(bench.general, cells, controlled)
        row["controller_domain_loss_more"] = between(bench.domain, cells, controlled)
    return row


def compare(bench: Bench, budget: float) -> dict[str, Any]:
    """The controller for a budget against all that is fixed."""
    controlled = [bench.cell(f"controller {budget}", seed, RatioController(budget)) for seed in SEEDS]
    ratios = {f"fixed {ratio}": ratio for ratio in FIXED}
    chosen = bench.chosen(budget)
    if chosen is not None:
        ratios[f"{CHOSEN} {chosen:.3f}"] = chosen
    rows = [side(bench, "controller", controlled, budget)]
    rows += [
        side(bench, name, [bench.cell(name, seed, ratio) for seed in SEEDS], budget, controlled)
        for name, ratio in ratios.items()
    ]
    matched = [
        bench.cell(f"as many as controller {budget}", seed, achieved(cell))
        for seed, cell in zip(SEEDS, controlled, strict=True)
    ]
    rows.append(side(bench, "fixed, as many replay tokens", matched, budget, controlled))
    kept = [row for row in rows[1:-1] if row["within"] == len(SEEDS)]
    best = min(kept, key=lambda row: np.mean(row["achieved"]))["name"] if kept else None
    curves = {str(seed): cell["probes"] for seed, cell in zip(SEEDS, controlled, strict=True)}
    found = {"budget": budget, "rows": rows, "best_fixed": best, "wins": wins(rows, best), "probes": curves}
    return {**found, "sentence": sentence(found)}


def wins(rows: list[dict[str, Any]], best: str | None) -> bool:
    """Clearly better: within the budget in every seed, and with intervals that exclude zero it forgets less than the same
    replay tokens at a fixed ratio without losing domain loss, or has less domain loss without forgetting more."""
    controller, matched = rows[0], rows[-1]
    against = [matched, *(row for row in rows[1:-1] if row["name"] == best)]

    def better(row: dict[str, Any]) -> bool:
        forgets, domain = row["controller_forgets_more"], row["controller_domain_loss_more"]
        return (forgets["high"] < 0 and domain["low"] <= 0) or (domain["high"] < 0 and forgets["low"] <= 0)

    return controller["within"] == len(SEEDS) and all(better(row) for row in against)


def table(result: dict[str, Any]) -> list[str]:
    """The results in Markdown."""
    held = result["held"]
    lines = [
        "# A controller of the replay ratio against fixed ratios",
        "",
        *measure.machine_lines(result["machine"], COMMAND),
        "",
        f"Data and training: `{SPEC}` with `{' '.join(OVERRIDES)}`; {result['domain_tokens']:,} domain tokens in every training,"
        f" {len(SEEDS)} seeds.",
        f"The controller probes {result['probe_documents']} documents ({result['probe_tokens']:,} tokens) every {PROBE_EVERY}"
        f" steps; {result['judges']} others judge. Nats per token; in brackets",
        "one-sided 95 % bounds over documents and seeds. Held at"
        f" {held['ratio']:.0%}, with {held['probes']} probes, it trains the same weights as the fixed ratio, to the bit.",
    ]
    for found in result["budgets"]:
        lines += ["", f"## Budget {found['budget']:g}", "", found["sentence"], ""]
        lines.append(
            "| side | replay achieved | forgetting | within the budget | domain loss, base 0 | controller forgets more by | controller's domain loss is higher by |"
        )
        lines.append("|---|---|---|---|---|---|---|")
        lines += [row_line(row) for row in found["rows"]]
    return lines


def row_line(row: dict[str, Any]) -> str:
    """A row of the table."""
    low, high = min(row["achieved"]), max(row["achieved"])
    ratio = f"{np.mean(row['achieved']):.3f}" + (f" ({low:.3f} to {high:.3f})" if high - low > 0.005 else "")
    paired = [row.get("controller_forgets_more"), row.get("controller_domain_loss_more")]
    cells = [
        row["name"], ratio, told(row["forgetting"]), f"{row['within']} of {len(SEEDS)}", told(row["domain"]),
        *(told(one) if one else "-" for one in paired),
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def told(one: dict[str, float]) -> str:
    """An estimate with its bounds."""
    return f"{one['estimate']:+.3f} ({one['low']:+.3f} to {one['high']:+.3f})"


def sentence(found: dict[str, Any]) -> str:
    """What came out for one budget."""
    controller, matched = found["rows"][0], found["rows"][-1]
    best = found["best_fixed"] or "none"
    chosen = next((row for row in found["rows"] if row["name"].startswith(CHOSEN)), None)
    return (
        f"The controller {'wins' if found['wins'] else 'does not win'}: {controller['within']} of {len(SEEDS)} seeds within the"
        f" budget at {np.mean(controller['achieved']):.3f} replay. The smallest fixed ratio that keeps the budget in every seed:"
        f" {best}. Against a fixed ratio of as many replay tokens ({matched['within']} within) {differs(matched)}."
        + (f" Against {chosen['name']} ({chosen['within']} within) {differs(chosen)}." if chosen else "")
        + f" Learning rate cut in {sum(map(bool, controller['cuts']))} seeds, stopped in {controller['stopped']}; probes take"
        f" {controller['probe_share']:.0%} of its time."
    )


def differs(row: dict[str, Any]) -> str:
    """How the controller differs from a fixed ratio, in words."""
    return (
        f"it forgets {told(row['controller_forgets_more'])} more and its domain loss is"
        f" {told(row['controller_domain_loss_more'])} higher"
    )


def main() -> None:
    """Run what is missing and write the results."""
    import torch

    torch.set_num_threads(1)
    bench = Bench()
    ground = bench.ground
    result: dict[str, Any] = {
        "command": COMMAND,
        "machine": measure.describe_machine(("torch", "transformers", "numpy")),
        "seeds": SEEDS,
        "domain_tokens": ground.domain_tokens,
        "probe_documents": len(ground.probe),
        "probe_tokens": sum(item.labels for item in ground.probe),
        "judges": len(bench.general.items),
        "held": check_held(bench),
        "budgets": [compare(bench, budget) for budget in BUDGETS],
    }
    measure.write_results("controller", result, table(result))


if __name__ == "__main__":
    main()
