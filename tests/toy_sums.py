"""Made-up sums: prompts with worked answers in GSM8K's form, small enough for a tiny model to learn in seconds."""

import itertools
import random
from pathlib import Path
from typing import Any

from tests.corpora import write_rows
from tests.tiny_base import prose

PHRASES = (
    "What is {a} plus {b}?",
    "Add {a} and {b}.",
    "Tom has {a} apples and gets {b} more. How many are there?",
    "{b} birds join {a} birds. How many birds?",
    "Work out {a} + {b}.",
    "How much are {a} and {b} together?",
    "There are {a} cups and {b} plates. How many things?",
    "Give the sum of {a} and {b}.",
)


def sums(largest: int = 4, seed: int = 5) -> list[dict[str, str]]:
    """Every phrase with every two numbers up to `largest`, shuffled; keys as in GSM8K."""
    numbers = range(largest + 1)
    rows = [
        {"question": phrase.format(a=a, b=b), "answer": f"{a} + {b} = {a + b}\n#### {a + b}"}
        for phrase, a, b in itertools.product(PHRASES, numbers, numbers)
    ]
    random.Random(seed).shuffle(rows)
    return rows


def write_sums(folder: Path) -> None:
    """Write train.jsonl (as MetaMathQA has it), test.jsonl (as GSM8K), and two files of general text."""
    rows = sums()
    write_rows(
        folder / "train.jsonl",
        [{"type": "made", "query": row["question"], "response": row["answer"]} for row in rows[40:]],
    )
    write_rows(folder / "test.jsonl", rows[:40])
    texts = [line[:300] for line in prose("en_*")]
    write_rows(folder / "general.jsonl", texts[:40])
    write_rows(folder / "heldout.jsonl", texts[40:80])


def sums_spec(folder: Path, base: Path | str, metric: str = "exact_match", **keys: Any) -> dict[str, Any]:
    """A run on the sums with text beside it, as plain values."""
    objective = {"kind": "instruction", "metric": metric}
    if metric == "exact_match":
        objective["max_new_tokens"] = 24
    training = {"steps": 40, "sequence_length": 128, "batch_tokens": 1024, "learning_rate": 2e-3}
    return {
        "name": "sums",
        "base": str(base),
        "objective": {**objective, **keys.pop("objective", {})},
        "domain": [{"path": str(folder / "train.jsonl"), "contract": "instruction"}],
        "replay": [{"path": str(folder / "general.jsonl"), "contract": "general_text", "record": "text"}],
        "mixture": {"replay_ratio": 0.25},
        "training": {**training, **keys.pop("training", {})},
        "evaluation": {
            "domain": [{"path": str(folder / "test.jsonl"), "contract": "instruction"}],
            "general": [
                {"path": str(folder / "heldout.jsonl"), "contract": "general_text", "record": "text"}
            ],
        },
        **keys,
    }
