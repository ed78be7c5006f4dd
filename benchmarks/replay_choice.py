"""Is forgetting on the stories rig monotone in replay, and does a ratio chosen for a budget keep it?

    python -m benchmarks.replay_choice [--only dose|choice]          (needs ROOTSTOCK_DATA; resumable, one process)

dose:   0, 1, 5, 25 and 50 % replay at equal domain tokens (to a step), three seeds each, scored on the whole general suite.
choice: `choose-replay` for a budget of 0.10 nats per token with its default proxies on the development part of the suite; then
        ten full-length trainings at the chosen ratio with ten other seeds, scored on the other part, that the choice has
        never seen.
Writes results/replay_choice.json and .md.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import measure
from data_contracts.contract import list_contracts
from flows.growing.effective import with_ratio
from flows.progress.watch import Console
from flows.replay.choose_replay import choose_ratio, with_budget
from flows.replay.propose_replay import call_plainly
from schemas.reading.load import load_spec
from schemas.results.replay_choice import ReplayChoice
from schemas.spec.run import RunSpec
from tasks.data.prepare import Prepared, prepare, tokenize
from tasks.evaluation.scoring.score_model import score_model
from tasks.evaluation.suites.build import build_suites
from tasks.evaluation.suites.items import Suite
from tasks.evaluation.verdict.statistics import paired_difference
from tasks.training.models.base_model import BaseModel, provide_base
from tasks.training.train import train
from tasks.training.training_inputs import training_inputs

SPEC = "runs/stories_forgetting.yaml"
STATE = measure.ROOT / ".rootstock" / "replay_choice"
CELLS = STATE / "cells.json"
RESULTS = measure.ROOT / "benchmarks" / "results"
LIBRARIES = ("torch", "transformers", "numpy", "scipy")

DOSES = (0.0, 0.01, 0.05, 0.25, 0.5)
DOSE_TOKENS = 72_000
DOSE_SEEDS = (101, 102, 103)
BUDGET = 0.10
FULL_SEEDS = tuple(range(201, 211))
CONFIDENCE = 0.95


class Rig:
    """The specification's data, base and suites, prepared once."""

    def __init__(self, spec: RunSpec) -> None:
        self.spec = spec
        self.prepared: Prepared = prepare(STATE, spec)
        self.base: BaseModel = provide_base(STATE, spec, self.prepared, None)
        self.cells: dict[str, Any] = json.loads(CELLS.read_bytes()) if CELLS.is_file() else {}

    def suites(self, spec: RunSpec) -> list[Suite]:
        """The general suites as the verdict of `spec` would score them."""
        tokenized = tokenize(STATE, with_ratio(spec, 0.0), self.prepared, self.base.folder)
        return [suite for suite in build_suites(spec, self.prepared, tokenized) if suite.kind == "general"]

    def losses(self, name: str, suite: Suite, spec: RunSpec | None) -> dict[str, Any]:
        """Summed loss of every document under the base (spec None) or a model trained by `spec`; kept in a file."""
        if name not in self.cells:
            folder, facts = self.base.folder, {}
            if spec is not None:
                tokenized = tokenize(STATE, spec, self.prepared, self.base.folder)
                inputs = training_inputs(spec, self.base, self.prepared, tokenized)
                folder = train(STATE, spec, inputs).folder / "model"
                facts = tokenized.mixture.model_dump(
                    include={"domain_tokens", "replay_tokens", "steps", "achieved_ratio"}
                )
            scored = score_model(STATE, self.spec, [suite], folder)
            self.cells[name] = {"nats": np.load(scored.folder / "nats-0.npy").tolist(), **facts}
            CELLS.write_text(json.dumps(self.cells))
            print(name, facts, flush=True)
        return self.cells[name]


def trained_for(spec: RunSpec, ratio: float, seed: int, domain_tokens: int | None = None) -> RunSpec:
    """The rig's run at a ratio, of a seed, as long as it says or with so many domain tokens."""
    length: dict[str, Any] = {"seed": seed}
    if domain_tokens is not None:
        length |= {"steps": None, "tokens": round(domain_tokens / (1 - ratio))}
    training = spec.training.model_copy(update=length)
    return with_ratio(spec, ratio).model_copy(update={"training": training})


def difference(suite: Suite, before: list[list[float]], after: list[list[float]]) -> dict[str, float]:
    """Rise of the loss from one set of models to another of as many seeds, in nats per token: documents clustered, and seeds.

    The error is that of the mean over seeds: over documents at fixed models, and over seeds at fixed documents, added.
    """
    tokens = np.array([len(item.input_ids) - 1 for item in suite.items])
    groups = [item.group for item in suite.items]
    old, new = np.array(before), np.array(after)
    over = paired_difference(old.mean(axis=0), new.mean(axis=0), tokens, groups, CONFIDENCE)
    by_seed = (new - old).sum(axis=1) / tokens.sum()
    seeds = float(by_seed.std(ddof=1) / np.sqrt(len(by_seed))) if len(by_seed) > 1 else 0.0
    error = float(np.hypot(over.standard_error, seeds))
    from scipy.special import stdtrit

    margin = (
        float(stdtrit(max(len(by_seed) - 1, 1) if len(by_seed) > 1 else over.degrees_of_freedom, CONFIDENCE))
        * error
    )
    return {"estimate": over.estimate, "low": over.estimate - margin, "high": over.estimate + margin}


def dose(rig: Rig) -> dict[str, Any]:
    """Forgetting at every dose, and its change from each dose to the next."""
    suite = rig.suites(rig.spec)[0]
    base = rig.losses("base whole", suite, None)["nats"]
    rows, last = [], None
    for ratio in DOSES:
        cells = [
            rig.losses(
                f"dose {ratio} {DOSE_TOKENS} {seed}", suite, trained_for(rig.spec, ratio, seed, DOSE_TOKENS)
            )
            for seed in DOSE_SEEDS
        ]
        nats = [cell["nats"] for cell in cells]
        tokens = sum(len(item.input_ids) - 1 for item in suite.items)
        rows.append(
            {
                "replay_ratio": ratio,
                "domain_tokens": [cell["domain_tokens"] for cell in cells],
                "replay_tokens": [cell["replay_tokens"] for cell in cells],
                "forgetting": difference(suite, [base] * len(cells), nats),
                "by_seed": [(sum(one) - sum(base)) / tokens for one in nats],
                "change": difference(suite, last, nats) if last else None,
            }
        )
        last = nats
    rises = [row["replay_ratio"] for row in rows if row["change"] and row["change"]["low"] > 0]
    falls = [row["replay_ratio"] for row in rows if row["change"] and row["change"]["high"] < 0]
    return {
        "documents": len(suite.items),
        "seeds": DOSE_SEEDS,
        "rows": rows,
        "rises": rises,
        "certain_falls": falls,
    }


def choice(rig: Rig) -> dict[str, Any]:
    """The chosen ratio, and what full-length trainings at it forget of documents that the choice has not seen."""
    asked = with_budget(rig.spec, BUDGET)
    file = STATE / "choice.json"
    if not file.is_file():
        chosen = choose_ratio(asked, STATE, rig.prepared, rig.base, Console(), call_plainly)
        file.write_text(chosen.model_dump_json(indent=1))
    chosen = ReplayChoice.model_validate_json(file.read_bytes())
    if chosen.replay_ratio is None:
        return {"choice": chosen.model_dump(mode="json"), "rows": []}
    suite = rig.suites(asked)[0]
    base = rig.losses("base verdict part", suite, None)["nats"]
    rows = []
    for seed in FULL_SEEDS:
        cell = rig.losses(
            f"full {chosen.replay_ratio} {seed}", suite, trained_for(rig.spec, chosen.replay_ratio, seed)
        )
        facts = {name: cell[name] for name in ("domain_tokens", "replay_tokens", "steps", "achieved_ratio")}
        rows.append({"seed": seed, **facts, "forgetting": difference(suite, [base], [cell["nats"]])})
    within = sum(row["forgetting"]["estimate"] <= BUDGET for row in rows)
    return {
        "budget": BUDGET, "choice": chosen.model_dump(mode="json"), "documents": len(suite.items), "rows": rows,
        "within": within, "of": len(rows),
    }  # fmt: skip


def table(results: dict[str, Any]) -> str:
    """The results in Markdown."""
    lines = ["# Replay on the stories rig: dose curve, and a ratio chosen for a budget\n"]
    lines.append(
        f"`python -m benchmarks.replay_choice` on {SPEC}; {results['machine']['cpu']}. Nats per token; bounds are"
    )
    lines.append("one-sided, 95 %, over documents and seeds.\n")
    if found := results.get("dose"):
        lines.append(
            f"## Dose: {len(DOSE_SEEDS)} seeds, {DOSE_TOKENS:,} domain tokens each, {found['documents']} documents\n"
        )
        lines.append(
            "| replay | forgetting | bounds | change from the dose before | bounds |\n| --- | --- | --- | --- | --- |"
        )
        for row in found["rows"]:
            lines.append(
                f"| {row['replay_ratio']:.0%} | {written(row['forgetting'])} | {written(row['change'])} |"
            )
        verdict = (
            "No dose forgets more than the one before it"
            if not found["rises"]
            else f"Rises at {found['rises']}"
        )
        lines.append(
            f"\n{verdict}; the fall is certain at {', '.join(f'{r:.0%}' for r in found['certain_falls'])}.\n"
        )
    if found := results.get("choice"):
        chosen = ReplayChoice.model_validate(found["choice"])
        lines.append(f"## Choice for a budget of {BUDGET:g} nats\n\n{chosen.sentence}.\n")
        lines.append("| replay | domain tokens of the proxy | forgetting |\n| --- | --- | --- |")
        lines += [
            f"| {p.replay_ratio:.1%} | {p.domain_tokens:,} | {p.forgetting:+.3f} |"
            for p in chosen.curves[0].points
        ]
        if found["rows"]:
            lines.append(
                f"\nTrained at full length with {found['of']} other seeds, scored on {found['documents']} documents that the"
            )
            lines.append(f"choice has not seen: **{found['within']} of {found['of']} within the budget**.\n")
            lines.append(
                "| seed | domain tokens | replay | forgetting | bounds |\n| --- | --- | --- | --- | --- |"
            )
            lines += [
                f"| {r['seed']} | {r['domain_tokens']:,} | {r['achieved_ratio']:.3f} | {written(r['forgetting'])} |"
                for r in found["rows"]
            ]
    return "\n".join(lines) + "\n"


def written(one: dict[str, float] | None) -> str:
    """An estimate and its bounds as two cells."""
    return f"{one['estimate']:+.3f} | {one['low']:+.3f} to {one['high']:+.3f}" if one else " | "


def main() -> None:
    """Run what is missing and write the results after each part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", nargs="*", default=["choice", "dose"], choices=["choice", "dose"])
    wanted = parser.parse_args().only
    STATE.mkdir(parents=True, exist_ok=True)
    rig = Rig(load_spec(Path(SPEC), [], list_contracts()))
    file = RESULTS / "replay_choice.json"
    results: dict[str, Any] = json.loads(file.read_bytes()) if file.is_file() else {}
    results |= {
        "command": "python -m benchmarks.replay_choice",
        "machine": measure.describe_machine(LIBRARIES),
    }
    for part in wanted:
        results[part] = {"dose": dose, "choice": choice}[part](rig)
        file.write_text(json.dumps(results, indent=1) + "\n")
        (RESULTS / "replay_choice.md").write_text(table(results))


if __name__ == "__main__":
    main()
