"""Several tasks for one body: trades and tempers told by the words of a text, and names told by their own."""

import random
from pathlib import Path
from typing import Any

from tests.toy_heads import FILLER, labelled_rows, tagged_rows, write_labelled, write_tagged

TEMPERS = {"calm": ["rest", "garden", "tea"], "hasty": ["run", "now", "hurry"]}


def temper_rows(count: int, seed: int = 7) -> list[dict[str, str]]:
    """Texts of filler words with three words of one temper; the first is twice as frequent."""
    choose = random.Random(seed)
    rows = []
    for _ in range(count):
        label = choose.choice(["calm", "calm", "hasty"])
        words = [choose.choice(FILLER) for _ in range(choose.randint(2, 6))]
        for _ in range(3):
            words.insert(choose.randint(0, len(words)), choose.choice(TEMPERS[label]))
        rows.append({"text": " ".join(words), "label": label})
    return rows


def task_texts() -> list[str]:
    """The words of the tempers, often enough that a tokenizer learns them."""
    return [" ".join(word for words in TEMPERS.values() for word in words)] * 60


TASKS: dict[str, dict[str, Any]] = {
    "trades": {"name": "trades", "kind": "text_classification"},
    "tempers": {"name": "tempers", "kind": "text_classification", "metric": "macro_f1"},
    "names": {"name": "names", "kind": "token_classification"},
}


def task_source(folder: Path, task: str, count: int = 240) -> dict[str, str]:
    """Write the rows of a task; the source that reads them."""
    if task == "names":
        file, contract = write_tagged(folder / "names.conll", tagged_rows(count)), "tagged_tokens"
    else:
        rows = labelled_rows(count) if task == "trades" else temper_rows(count)
        file, contract = write_labelled(folder / f"{task}.jsonl", rows), "labeled_text"
    return {"path": str(file), "contract": contract, "task": task}


def tasks_spec(
    folder: Path, base: Path, tasks: tuple[str, ...] = ("trades", "tempers"), count: int = 240, **keys: Any
) -> dict[str, Any]:
    """A whole specification as plain values; its files are written to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    training = {
        "epochs": 10,
        "sequence_length": 48,
        "batch_tokens": 384,
        "learning_rate": 5e-3,
        "checkpoint_every": 20,
    }
    return {
        "name": "together",
        "base": str(base),
        "objective": {"kind": "multi_task", "tasks": [TASKS[task] for task in tasks]},
        "domain": [task_source(folder, task, count) for task in tasks],
        "mixture": {"replay_ratio": 0},
        "evaluation": {"domain_holdout": 0.25},
        "promotion": {"min_gain": 0.1},
        **keys,
        "training": {**training, **keys.pop("training", {})},
    }
