"""Does fusing two adapters lose anything against the better one? Stage 2 of AdapterFusion on a mixture of two tasks.

    ROOTSTOCK_DATA=FOLDER python -m benchmarks.fusion [--model FOLDER] [--seeds 17 18 19] [--steps 100]

Stage 1 trains an adapter for each of two tasks in one run (objective multi_task, adapter_pfeiffer.per_task): intents of
bank customers (10 of Banking77's 77) and SMS spam. Stage 2 has both tasks' rows mixed, and new heads train over
adapters that stay as they are: both of them fused, the one of the intents alone, the one of the messages alone, and
none. All four have the same base, rows, steps and learning rate, and are scored on the same held-out rows of both
tasks. Interval: the fused minus each other, paired by row (Tango's score interval), then over the seeds. See
benchmarks/README.md.
"""

import argparse
import csv
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import measure

LIBRARIES = ("torch", "transformers")
TASKS = ("intents", "spam")
ARMS = ("fusion", *(f"adapter of {task} alone" for task in TASKS), "no adapter")
INTENTS, ROWS = 10, 600
SETTINGS = {"sequence_length": 64, "batch_tokens": 1024}
ADAPTER = {"kind": "adapter_pfeiffer", "size": 16}
RATES = {"stage 1": 5e-3, "stage 2": 3e-3}
CONFIDENCE = 0.95


def write_tasks(data: Path, folder: Path) -> None:
    """Write the rows of both tasks: the intents with most rows, and as many messages (without control characters)."""
    with (data / "data" / "classification" / "banking77_train.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["category"]] = counts.get(row["category"], 0) + 1
    kept = sorted(counts, key=lambda name: (-counts[name], name))[:INTENTS]
    intents = [(row["text"], row["category"]) for row in rows if row["category"] in kept]
    lines = (data / "data" / "classification" / "sms_spam.tsv").read_text(encoding="utf-8").split("\n")
    pairs = [line.split("\t", 1) for line in lines if line.strip() and line.replace("\t", "").isprintable()]
    for name, found in (("intents", intents), ("spam", [(text, label) for label, text in pairs])):
        every = max(1, len(found) // ROWS)
        chosen = [{"text": text.strip(), "label": label} for text, label in found[::every]][:ROWS]
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in chosen)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")


def make_spec(folder: Path, model: Path, method: dict[str, Any], steps: int, seed: int, stage: str) -> Any:
    """The run of one stage; split and rows are the same in both."""
    from schemas.spec.run import RunSpec

    return RunSpec.model_validate(
        {
            "name": "fusion",
            "base": str(model),
            "objective": {
                "kind": "multi_task",
                "tasks": [{"name": task, "kind": "text_classification"} for task in TASKS],
            },
            "domain": [
                {"path": str(folder / f"{task}.jsonl"), "contract": "labeled_text", "task": task}
                for task in TASKS
            ],
            "mixture": {"replay_ratio": 0},
            "method": method,
            "training": {**SETTINGS, "steps": steps, "learning_rate": RATES[stage], "seed": seed},
            "evaluation": {"domain_holdout": 0.4},
        }
    )


def here(function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    """Map over shards in this process."""
    return [function(item) for item in items]


def prepare(state: Path, spec: Any) -> tuple[Any, Any, Any]:
    """The data stages: suites, what training reads, and the labels' names."""
    from tasks.data.prepare import prepare as prepare_data
    from tasks.data.prepare import tokenize
    from tasks.evaluation.suites.build import build_suites
    from tasks.training.models.base_model import provide_base
    from tasks.training.training_inputs import training_inputs

    prepared = prepare_data(state, spec, here)
    base = provide_base(state, spec, prepared, None)
    tokenized = tokenize(state, spec, prepared, base.folder, here)
    inputs = training_inputs(spec, base, prepared, tokenized)
    return build_suites(spec, prepared, tokenized), inputs, tokenized.labels


def train_over_one(folder: Path, spec: Any, inputs: Any, adapters: Path, task: str) -> Path:
    """Train new heads over one adapter of stage 1, which stays as it is."""
    from safetensors.torch import load_file

    from tasks.training.attach import attach
    from tasks.training.device import find_device
    from tasks.training.methods.parts.insertion import CONTAINER, WEIGHTS
    from tasks.training.methods.parts.task_adapters import key_of
    from tasks.training.train import _make_trainer, _save

    tuned = attach(spec, inputs, find_device())
    start = f"{CONTAINER}.{key_of(task)}."
    tensors = load_file(adapters / WEIGHTS)
    own = {n.removeprefix(start): tensor for n, tensor in tensors.items() if n.startswith(start)}
    tuned.modules().load_state_dict(own)
    tuned.modules().requires_grad_(False)
    trainer, stop = _make_trainer(tuned, folder / "work", spec, inputs, find_device(), None)
    try:
        trainer.train()
    finally:
        stop.give_back()
    _save(tuned, folder / "model", spec, inputs)
    return folder / "model"


def run_seed(
    model: Path, folder: Path, steps: int, seed: int
) -> dict[str, dict[str, list[tuple[str, bool]]]]:
    """Arm -> task -> (group, whether the answer is right) of every held-out row."""
    from tasks.evaluation.scoring.predictions import load_answers, predict_suites
    from tasks.training.train import train

    state = folder / f"state-{seed}"
    both = make_spec(folder, model, {**ADAPTER, "per_task": True}, steps, seed, "stage 1")
    suites, inputs, _ = prepare(state, both)
    adapters = train(state, both, inputs).folder / "model"
    methods: dict[str, dict[str, Any]] = {
        "fusion": {"kind": "adapter_fusion", "adapters": [f"{adapters}#{task}" for task in TASKS]},
        **{f"adapter of {task} alone": ADAPTER for task in TASKS},
        "no adapter": {"kind": "head_only"},
    }
    found: dict[str, dict[str, list[tuple[str, bool]]]] = {}
    for arm in ARMS:
        spec = make_spec(folder, model, methods[arm], steps, seed, "stage 2")
        task = next((task for task in TASKS if arm == f"adapter of {task} alone"), None)
        trained = (
            train(state, spec, inputs).folder / "model"
            if task is None
            else train_over_one(folder / f"{task}-{seed}", spec, inputs, adapters, task)
        )
        step = predict_suites(state, spec, suites, trained)
        found[arm] = {
            suite.name: [
                (f"{suite.name} {item.group}", answer == list(item.gold))
                for item, answer in zip(suite.items, load_answers(step, number), strict=True)
            ]
            for number, suite in enumerate(suites)
        }
        shares = {name: sum(right for _, right in rows) / len(rows) for name, rows in found[arm].items()}
        print(f"  seed {seed}, {arm}: {shares}", flush=True)
    return found


def compare(results: Sequence[dict[str, dict[str, list[tuple[str, bool]]]]], other: str) -> dict[str, Any]:
    """Accuracy of the fused minus that of another arm, on all held-out rows of both tasks, over the seeds."""
    from tasks.evaluation.comparison.ranking import over_seeds
    from tasks.evaluation.verdict.proportions import paired_accuracy

    intervals = []
    for found in results:
        rows = {arm: [row for task in TASKS for row in found[arm][task]] for arm in ("fusion", other)}
        groups = [group for group, _ in rows[other]]
        sides = [[right for _, right in rows[arm]] for arm in (other, "fusion")]
        intervals.append(paired_accuracy(sides[0], sides[1], groups, CONFIDENCE))
    over = over_seeds(intervals, CONFIDENCE)
    return {
        "estimate": over.estimate,
        "low": over.low,
        "high": over.high,
        "of each seed": [[one.estimate, one.low, one.high] for one in intervals],
    }


def table(result: dict[str, Any], command: str) -> list[str]:
    """The measurement as Markdown."""
    lines = [
        "# AdapterFusion: two adapters fused against each alone",
        "",
        f"Accuracy on the held-out rows of both tasks together ({result['rows']} with the first seed), mean over"
        f" {len(result['seeds'])} seeds, after {result['steps']} steps of stage 2 over frozen adapters. Bounds are one-sided at"
        f" {CONFIDENCE:.0%} each, paired by row. The fusion trains its attentions beside the heads, the other arms the heads alone.",
        "",
        "| stage 2 over | accuracy | intents | spam | the fusion is better by |",
        "|---|---|---|---|---|",
    ]
    for arm in ARMS:
        values = result["accuracy"][arm]
        cells = [f"{values[name]:.3f}" for name in ("both", *TASKS)]
        versus = result["fusion minus"].get(arm)
        shown = f"{versus['estimate']:+.3f} ({versus['low']:+.3f} to {versus['high']:+.3f})" if versus else ""
        lines.append(f"| {arm} | " + " | ".join([*cells, shown]) + " |")
    return [*lines, "", result["verdict"], "", *measure.machine_lines(result["machine"], command)]


def verdict_of(result: dict[str, Any]) -> str:
    """What the intervals say of the better single adapter."""
    singles = ARMS[1:3]
    best = max(singles, key=lambda arm: result["accuracy"][arm]["both"])
    versus = result["fusion minus"][best]
    if versus["low"] > 0:
        word = "better than"
    elif versus["high"] < 0:
        word = "worse than"
    else:
        word = "not to be told apart from"
    return (
        f"The better single adapter is the {best}; the fusion is {word} it"
        f" ({versus['estimate']:+.3f}, {versus['low']:+.3f} to {versus['high']:+.3f})."
    )


def main(given: Sequence[str] | None = None) -> None:
    """Train both stages for every seed, and write results/fusion.json and .md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", type=Path, default=measure.ROOT / "assets" / "base")
    parser.add_argument("--seeds", type=int, nargs="+", default=[17, 18, 19])
    parser.add_argument("--steps", type=int, default=100)
    arguments = parser.parse_args(given)
    data = os.environ.get("ROOTSTOCK_DATA")
    if data is None:
        raise SystemExit("the data folder is not named; run: export ROOTSTOCK_DATA=...")
    machine = measure.describe_machine(LIBRARIES)
    with measure.scratch_folder() as scratch:
        folder = Path(scratch)
        write_tasks(Path(data), folder)
        results = [run_seed(arguments.model, folder, arguments.steps, seed) for seed in arguments.seeds]
    accuracy: dict[str, dict[str, float]] = {}
    for arm in ARMS:
        shares = {
            task: [sum(right for _, right in found[arm][task]) / len(found[arm][task]) for found in results]
            for task in TASKS
        }
        both = [
            sum(right for task in TASKS for _, right in found[arm][task])
            / sum(len(found[arm][task]) for task in TASKS)
            for found in results
        ]
        accuracy[arm] = {name: sum(v) / len(v) for name, v in {"both": both, **shares}.items()}
    result = {
        "machine": machine,
        "settings": {**SETTINGS, "adapter": ADAPTER, "learning rates": RATES, "intents": INTENTS},
        "steps": arguments.steps,
        "seeds": arguments.seeds,
        "rows": sum(len(results[0]["fusion"][task]) for task in TASKS),
        "accuracy": accuracy,
        "fusion minus": {arm: compare(results, arm) for arm in ARMS[1:]},
    }
    result["verdict"] = verdict_of(result)
    seeds = " ".join(map(str, arguments.seeds))
    command = f"python -m benchmarks.fusion --seeds {seeds} --steps {arguments.steps}"
    measure.write_results("fusion", result, table(result, command))


if __name__ == "__main__":
    main()
