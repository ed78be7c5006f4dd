"""Two separable tasks a tiny model learns in seconds: trades told by their words, and names told by theirs."""

import json
import random
from pathlib import Path
from typing import Any

TRADES = {
    "gardening": ["graft", "scion", "bark", "pear", "cherry", "orchard"],
    "sailing": ["boat", "harbour", "anchor", "sail", "tide", "mast"],
    "烹饪": ["锅", "炒菜", "面条", "盐", "汤", "蒸鱼"],
}
FILLER = [
    "the",
    "old",
    "slow",
    "evening",
    "letter",
    "window",
    "street",
    "we",
    "then",
    "again",
    "quiet",
    "day",
]
FIRST, LAST = ["Anna", "Boris", "Clara", "David"], ["Miller", "Novak", "Silva"]
PLACES = ["Paris", "Lisbon", "上海", "Oslo"]


def labelled_rows(count: int, seed: int = 5) -> list[dict[str, str]]:
    """Texts of filler words with four words of one trade; the first trade is twice as frequent as the others."""
    choose = random.Random(seed)
    names = list(TRADES)
    rows = []
    for _ in range(count):
        label = choose.choice([names[0], *names])
        words = [choose.choice(FILLER) for _ in range(choose.randint(2, 6))]
        for _ in range(4):
            words.insert(choose.randint(0, len(words)), choose.choice(TRADES[label]))
        rows.append({"text": " ".join(words), "label": label})
    return rows


def tagged_rows(count: int, seed: int = 6) -> list[tuple[list[str], list[str]]]:
    """Sentences of filler words with a person's name (two words) and, often, a place."""
    choose = random.Random(seed)
    rows = []
    for _ in range(count):
        parts = [([word], ["O"]) for word in choose.choices(FILLER, k=choose.randint(3, 8))]
        parts.append(([choose.choice(FIRST), choose.choice(LAST)], ["B-PER", "I-PER"]))
        if choose.random() < 0.7:
            parts.append(([choose.choice(PLACES)], ["B-LOC"]))
        choose.shuffle(parts)
        rows.append(([w for words, _ in parts for w in words], [t for _, tags in parts for t in tags]))
    return rows


def write_labelled(file: Path, rows: list[dict[str, str]]) -> Path:
    """JSON Lines."""
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return file


def write_tagged(file: Path, rows: list[tuple[list[str], list[str]]]) -> Path:
    """CoNLL columns."""
    blocks = ["".join(f"{word}\t{tag}\n" for word, tag in zip(*row, strict=True)) for row in rows]
    file.write_text("\n".join(blocks), encoding="utf-8")
    return file


def toy_texts() -> list[str]:
    """Every word of both tasks, often enough that a tokenizer learns it."""
    words = [*FILLER, *FIRST, *LAST, *PLACES, *(word for words in TRADES.values() for word in words)]
    return [" ".join(words)] * 60


def toy_spec(folder: Path, kind: str, base: Path, **keys: Any) -> dict[str, Any]:
    """A whole specification as plain values; its files are written to `folder`."""
    if kind == "text_classification":
        file = write_labelled(folder / "trades.jsonl", labelled_rows(240))
        contract = "labeled_text"
    else:
        file = write_tagged(folder / "names.conll", tagged_rows(240))
        contract = "tagged_tokens"
    training = {
        "epochs": 10,
        "sequence_length": 48,
        "batch_tokens": 384,
        "learning_rate": 3e-3,
        "checkpoint_every": 20,
    }
    return {
        "name": "toy",
        "base": str(base),
        "objective": {"kind": kind},
        "domain": [{"path": str(file), "contract": contract}],
        "mixture": {"replay_ratio": 0},
        "evaluation": {"domain_holdout": 0.25},
        "promotion": {"min_gain": 0.1},
        **keys,
        "training": {**training, **keys.pop("training", {})},
    }
