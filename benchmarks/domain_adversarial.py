"""Does domain_adversarial keep a text head from forgetting, and does class balance raise macro F1? Each against its control.

    ROOTSTOCK_DATA=FOLDER python -m benchmarks.domain_adversarial [--model FOLDER] [--seeds 17 18 19]

The model is the bundled base unless another is named; about five minutes of one core.

Forgetting: bank customers' questions (Banking77) are sorted into five kinds by a word of their intent's name; of each
kind, every other intent is old and the rest are new. A model that learned the old questions learns the new ones, a tenth
of its tokens replay of the old: without a remedy, and with it at the paper's strength and at a tenth of it.

Class balance: SMS spam (one in eight) and the five kinds of questions, old and new, with class_temperature 3.3 (Conneau et
al.'s alpha of 0.3) against as they are, the same number of steps and tokens.

Intervals are paired by row (Tango's score interval, a bootstrap for macro F1), then over the seeds; every seed splits
anew. Model and rate were chosen by what a training without remedy learns (the encoder of benchmarks.tiny_encoder never left
the most frequent label), steps and seeds by the time there was: before any other arm was scored on this model. See
benchmarks/README.md.
"""

import argparse
import csv
import json
import os
import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import measure

LIBRARIES = ("torch", "transformers")
CONFIDENCE = 0.95
KINDS = {
    "top_up": "top-up",
    "topping": "top-up",
    "transfer": "transfer",
    "cash": "cash",
    "payment": "payment",
    "card": "card",
}
"""Word of an intent's name -> what kind of question it is; the first that fits."""
SETTINGS = {"sequence_length": 48, "batch_tokens": 960, "learning_rate": 1e-3}
STEPS = {"old": 100, "new": 50, "spam": 40, "kinds": 40}
REPLAY = 0.1
TEMPERATURE = 3.3
HELD_OUT = 0.3
ARMS: dict[str, list[dict[str, Any]]] = {
    "replay alone": [],
    "domain_adversarial": [{"kind": "domain_adversarial"}],
    "domain_adversarial, strength 0.1": [{"kind": "domain_adversarial", "strength": 0.1}],
}
BALANCE: dict[str, dict[str, Any]] = {"as they are": {}, "class balance": {"class_temperature": TEMPERATURE}}
Rows = list[tuple[str, str]]
"""(text, label)"""
Answered = list[tuple[str, str, str]]
"""(group, label, answer) of every held-out row."""


def read_intents(data: Path) -> Rows:
    """Every question with its intent."""
    with (data / "data" / "classification" / "banking77_train.csv").open(encoding="utf-8") as file:
        return [(" ".join(row["text"].split()), row["category"]) for row in csv.DictReader(file)]


def read_spam(data: Path) -> Rows:
    """Every message without control characters."""
    lines = (data / "data" / "classification" / "sms_spam.tsv").read_text(encoding="utf-8").split("\n")
    pairs = [line.split("\t", 1) for line in lines if line.strip() and line.replace("\t", "").isprintable()]
    return [(text.strip(), label) for label, text in pairs]


def old_and_new(rows: Rows) -> dict[str, Rows]:
    """The questions of some intents of each kind, and of the others, each with its kind as label."""
    kinds = {
        intent: next((kind for word, kind in KINDS.items() if word in intent), None)
        for intent in sorted({intent for _, intent in rows})
    }
    sides: dict[str, set[str]] = {"old": set(), "new": set()}
    for kind in dict.fromkeys(KINDS.values()):
        own = [intent for intent, found in kinds.items() if found == kind]
        sides["old"] |= set(own[::2])
        sides["new"] |= set(own[1::2])
    return {
        side: [(text, str(kinds[intent])) for text, intent in rows if intent in intents]
        for side, intents in sides.items()
    }


def write(file: Path, rows: Rows) -> dict[str, Any]:
    """Write rows as JSON Lines; what a specification calls them by."""
    lines = [json.dumps({"text": text, "label": label}, ensure_ascii=False) + "\n" for text, label in rows]
    file.write_text("".join(lines), encoding="utf-8")
    return {"path": str(file), "contract": "labeled_text"}


def parted(rows: Rows, seed: int) -> tuple[Rows, Rows]:
    """Rows to train on and rows to score, each text on one side."""
    unique = list(dict(rows).items())
    random.Random(seed).shuffle(unique)
    cut = round(len(unique) * HELD_OUT)
    return unique[cut:], unique[:cut]


def make_spec(base: Path, steps: int, seed: int, **keys: Any) -> Any:
    """One training of a text head."""
    from schemas.spec.run import RunSpec

    return RunSpec.model_validate(
        {
            "name": "domain-adversarial",
            "base": str(base),
            "objective": {"kind": "text_classification"},
            "mixture": {"replay_ratio": 0},
            "promotion": {"min_gain": 0.01},
            **keys,
            "training": {**SETTINGS, "steps": steps, "seed": seed, "checkpoint_every": 10_000},
        }
    )


def here(function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    """Map over shards in this process."""
    return [function(item) for item in items]


def train_and_answer(state: Path, spec: Any) -> tuple[Path, dict[str, Answered], dict[str, Any]]:
    """The trained model, its answers on every suite, and what is told of plan and remedies."""
    from tasks.data.prepare import prepare, tokenize
    from tasks.evaluation.scoring.predictions import load_answers, predict_suites
    from tasks.evaluation.suites.build import build_suites
    from tasks.training.models.base_model import provide_base
    from tasks.training.train import train
    from tasks.training.training_inputs import training_inputs

    prepared = prepare(state, spec, here)
    base = provide_base(state, spec, prepared, None)
    tokenized = tokenize(state, spec, prepared, base.folder, here)
    trained = train(state, spec, training_inputs(spec, base, prepared, tokenized))
    suites = build_suites(spec, prepared, tokenized)
    step = predict_suites(state, spec, suites, trained.folder / "model")
    answered = {
        suite.name: [
            (item.group, item.gold[0], answer[0])
            for item, answer in zip(suite.items, load_answers(step, number), strict=True)
        ]
        for number, suite in enumerate(suites)
    }
    told = {"remedies": trained.facts["remedies"], "labels": tokenized.plan.facts["report"]["labels"]}
    return trained.folder / "model", answered, told


def forget(base: Path, folder: Path, sides: dict[str, Rows], seed: int) -> dict[str, Any]:
    """Arm -> answers on held-out old and new questions; and of the model that knew the old ones alone."""
    state = folder / f"state-{seed}"
    files = {}
    for side, rows in sides.items():
        train_rows, scored = parted(rows, seed)
        files[side] = (
            write(folder / f"{side}-{seed}.jsonl", train_rows),
            write(folder / f"{side}-{seed}-held-out.jsonl", scored),
        )
    first = make_spec(
        base, STEPS["old"], seed, domain=[files["old"][0]], evaluation={"domain": [files["old"][1]]}
    )
    knows_old, answered, _ = train_and_answer(state, first)
    found: dict[str, Any] = {"before": {"old": next(iter(answered.values()))}, "discriminator": {}}
    for arm, remedies in ARMS.items():
        spec = make_spec(
            knows_old, STEPS["new"], seed,
            domain=[files["new"][0]],
            replay=[files["old"][0]],
            mixture={"replay_ratio": REPLAY},
            remedies=remedies,
            evaluation={"domain": [files["new"][1]], "general": [files["old"][1]]},
        )  # fmt: skip
        _, answered, told = train_and_answer(state, spec)
        found[arm] = dict(zip(("new", "old"), answered.values(), strict=True))
        found["discriminator"][arm] = told["remedies"]
        print(
            f"  seed {seed}, {arm}: old {accuracy(found[arm]['old']):.3f}, new {accuracy(found[arm]['new']):.3f}",
            flush=True,
        )
    return found


def balance(base: Path, folder: Path, name: str, rows: Rows, seed: int) -> dict[str, Any]:
    """Answers on held-out rows, with class balance and without, after the same steps."""
    train_rows, scored = parted(rows, seed)
    sources = {
        "domain": [write(folder / f"{name}-{seed}.jsonl", train_rows)],
        "evaluation": {"domain": [write(folder / f"{name}-{seed}-held-out.jsonl", scored)]},
        "objective": {"kind": "text_classification", "metric": "macro_f1"},
    }
    found = {}
    for arm, mixture in BALANCE.items():
        spec = make_spec(base, STEPS[name], seed, mixture={"replay_ratio": 0, **mixture}, **sources)
        _, answered, _ = train_and_answer(folder / f"state-{name}-{seed}", spec)
        (found[arm],) = answered.values()
        print(f"  seed {seed}, {name}, {arm}: macro F1 {f1(found[arm]):.3f}", flush=True)
    return found


def accuracy(rows: Answered) -> float:
    """Share of right answers."""
    return sum(label == answer for _, label, answer in rows) / len(rows)


def f1(rows: Answered) -> float:
    """The labels' F1 averaged evenly."""
    from tasks.evaluation.verdict.proportions import label_counts, macro_f1

    return float(macro_f1(label_counts([r[1] for r in rows], [r[2] for r in rows]).sum(0)[None])[0])


def more_accurate(pairs: Sequence[tuple[Answered, Answered]]) -> dict[str, Any]:
    """Accuracy of the second minus that of the first, over the seeds."""
    from tasks.evaluation.verdict.proportions import paired_accuracy

    return over([
        paired_accuracy(
            *([label == answer for _, label, answer in side] for side in pair),
            [group for group, _, _ in pair[0]],
            CONFIDENCE,
        )
        for pair in pairs
    ])  # fmt: skip


def higher_f1(pairs: Sequence[tuple[Answered, Answered]]) -> dict[str, Any]:
    """Macro F1 of the second minus that of the first, over the seeds."""
    from tasks.evaluation.verdict.proportions import label_counts, macro_f1, paired_statistic

    return over([
        paired_statistic(
            *(label_counts([r[1] for r in side], [r[2] for r in side]) for side in pair),
            [group for group, _, _ in pair[0]],
            macro_f1,
            CONFIDENCE,
        )
        for pair in pairs
    ])  # fmt: skip


def over(intervals: Sequence[Any]) -> dict[str, Any]:
    """The mean over the seeds with its bounds, and each seed's."""
    from tasks.evaluation.comparison.ranking import over_seeds

    mean = over_seeds(intervals, CONFIDENCE)
    return {
        "estimate": mean.estimate,
        "low": mean.low,
        "high": mean.high,
        "of each seed": [[one.estimate, one.low, one.high] for one in intervals],
    }


def told(versus: dict[str, Any]) -> str:
    """A difference with its bounds."""
    return f"{versus['estimate']:+.3f} ({versus['low']:+.3f} to {versus['high']:+.3f})"


def said(versus: dict[str, Any], more: str, less: str, change: str) -> str:
    """What an interval says: one that holds zero shows nothing, and no equality either."""
    return more if versus["low"] > 0 else less if versus["high"] < 0 else f"is not shown to {change}"


def table(result: dict[str, Any], command: str) -> list[str]:
    """The measurement as Markdown."""
    forgetting, balanced = result["forgetting"], result["class balance"]
    lines = [
        f"Mean over {len(result['seeds'])} seeds, each with a split of its own; bounds are one-sided at {CONFIDENCE:.0%} each, paired"
        " by row. The model is the bundled base, all of it trained.",
        "",
        f"Old questions before the new ones were learnt: accuracy {forgetting['before']:.3f}. Then {STEPS['new']} steps, {REPLAY:.0%}"
        " of the tokens replay:",
        "",
        "| remedy | old questions | new questions | old, against replay alone | new, against replay alone | discriminator tells the roles |",
        "|---|---|---|---|---|---|",
    ]
    for arm in ARMS:
        own = forgetting[arm]
        versus = [
            told(own[f"{side} minus replay alone"]) if arm != "replay alone" else ""
            for side in ("old", "new")
        ]
        sees = f"{own['discriminator accuracy']:.3f}" if own["discriminator accuracy"] is not None else ""
        lines.append(f"| {arm} | {own['old']:.3f} | {own['new']:.3f} | {versus[0]} | {versus[1]} | {sees} |")
    lines += [
        "",
        f"`mixture.class_temperature: {TEMPERATURE}` against documents as they are, the same steps and tokens:",
        "",
        "| rows | macro F1 as they are | balanced | balanced minus as they are | accuracy, balanced minus as they are |",
        "|---|---|---|---|---|",
    ]
    for name, own in balanced.items():
        lines.append(
            f"| {name} | {own['as they are']:.3f} | {own['class balance']:.3f} | {told(own['macro F1'])} | {told(own['accuracy'])} |"
        )
    return [*lines, "", *result["verdict"], "", *measure.machine_lines(result["machine"], command)]


def verdict_of(result: dict[str, Any]) -> list[str]:
    """What the intervals say."""
    lines = []
    for arm in list(ARMS)[1:]:
        own = result["forgetting"][arm]
        old = said(own["old minus replay alone"], "keeps more", "keeps less", "change what is kept")
        new = said(own["new minus replay alone"], "learns more", "learns less", "change what is learnt")
        lines.append(
            f"- `{arm}` against the same replay alone: it {old} of the old questions, and {new} of the new ones."
        )
    for name, own in result["class balance"].items():
        lines.append(
            f"- Class balance {said(own['macro F1'], 'raises', 'lowers', 'change')} macro F1 on {name}."
        )
    return lines


def main(given: Sequence[str] | None = None) -> None:
    """Train everything for every seed, and write results/domain_adversarial.json and .md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", type=Path, default=measure.ROOT / "assets" / "base")
    parser.add_argument("--seeds", type=int, nargs="+", default=[17, 18, 19])
    arguments = parser.parse_args(given)
    if (name := os.environ.get("ROOTSTOCK_DATA")) is None:
        raise SystemExit("the data folder is not named; run: export ROOTSTOCK_DATA=...")
    machine, began = measure.describe_machine(LIBRARIES), measure.cpu_seconds()
    sides = old_and_new(read_intents(Path(name)))
    rows = {"spam": read_spam(Path(name)), "kinds": [*sides["old"], *sides["new"]]}
    with measure.scratch_folder() as scratch:
        folder, base = Path(scratch), arguments.model
        forgot = [forget(base, folder, sides, seed) for seed in arguments.seeds]
        balanced = {
            name: [balance(base, folder, name, own, seed) for seed in arguments.seeds]
            for name, own in rows.items()
        }
    result = {
        "machine": machine,
        "settings": {
            **SETTINGS,
            "steps": STEPS,
            "replay_ratio": REPLAY,
            "class_temperature": TEMPERATURE,
            "arms": ARMS,
        },
        "seeds": arguments.seeds,
        "cpu_seconds": round(measure.cpu_seconds() - began),
        "rows": {side: len(forgot[0]["replay alone"][side]) for side in ("old", "new")},
        "forgetting": summed_up(forgot),
        "class balance": {name: balance_row(found) for name, found in balanced.items()},
    }
    result["verdict"] = verdict_of(result)
    seeds = " ".join(map(str, arguments.seeds))
    command = f"python -m benchmarks.domain_adversarial --seeds {seeds}"
    measure.write_results("domain_adversarial", result, table(result, command))


def summed_up(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means and paired differences of every arm."""
    told: dict[str, Any] = {"before": mean([accuracy(one["before"]["old"]) for one in found])}
    for arm in ARMS:
        sees = [list(one["discriminator"][arm].values()) for one in found]
        told[arm] = {
            **{side: mean([accuracy(one[arm][side]) for one in found]) for side in ("old", "new")},
            **{
                f"{side} minus replay alone": more_accurate(
                    [(one["replay alone"][side], one[arm][side]) for one in found]
                )
                for side in ("old", "new")
                if arm != "replay alone"
            },
            "discriminator accuracy": mean([one[0]["discriminator_accuracy"] for one in sees])
            if sees[0]
            else None,
        }
    return told


def balance_row(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means of macro F1, and what balance changes."""
    first, second = BALANCE
    pairs = [(one[first], one[second]) for one in found]
    return {
        **{arm: mean([f1(one[arm]) for one in found]) for arm in BALANCE},
        "macro F1": higher_f1(pairs),
        "accuracy": more_accurate(pairs),
    }


def mean(values: Sequence[float]) -> float:
    """Their mean."""
    return sum(values) / len(values)


if __name__ == "__main__":
    main()
