"""Small real corpora and specifications that tests of several stages share."""

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from schemas.spec.run import RunSpec
from schemas.spec.sources import Source
from tasks.data.plan.mix import Corpus
from tasks.data.prepare import Prepared, read_sources
from tasks.data.split.divide import divide
from tasks.data.validate.sources import PreparedSource, validate_source
from tasks.storage.workers import ShardMap


def here(function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    """A shard map that runs everything in this process."""
    return [function(item) for item in items]


def source(path: Path | str, **settings: Any) -> dict[str, Any]:
    return {"path": str(path), "contract": "general_text", **settings}


def make_spec(**keys: Any) -> RunSpec:
    """A specification; sections are given as dictionaries and completed with small defaults."""
    training = {"sequence_length": 32, "batch_tokens": 128, "learning_rate": 1e-2, **keys.pop("training", {})}
    if not {"tokens", "epochs", "steps"} & training.keys():
        training["epochs"] = 1
    whole = {
        "name": "test",
        "base": "assets/base",
        "domain": [source("domain.txt")],
        "mixture": {"replay_ratio": 0.0},
        "evaluation": {"domain_holdout": 0.2, "general": [source("general.txt")]},
        "training": training,
        **keys,
    }
    return RunSpec.model_validate(whole)


def write_rows(file: Path, rows: Iterable[str | dict[str, Any]]) -> Path:
    """Write jsonl; texts become rows with only a text."""
    lines = [json.dumps(row if isinstance(row, dict) else {"text": row}, ensure_ascii=False) for row in rows]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return file


def prepare_rows(root: Path, spec: RunSpec, map_shards: ShardMap = here) -> Prepared:
    """Validate and divide, as the data stage does, but without the contracts (tested by themselves, and slow)."""
    sources = [
        replace(
            validate_source(
                root, source, role, index, map_shards, spec.record_of(source), spec.labels_of(source)
            ),
            past=past,
        )
        for role, index, past, source in read_sources(spec)
    ]
    return Prepared(tuple(sources), (), divide(root, spec, sources))


def made_source(role: str, index: int, weight: float = 1.0) -> PreparedSource:
    """A source of which only role and weight are asked."""
    return PreparedSource(
        role, index, Source(path=f"{role}-{index}.txt", contract="any", weight=weight), None
    )


def made_corpus(number: int, lengths: np.ndarray, parts: int = 2) -> Corpus:
    """Documents of these lengths in ids, spread over some parts one after another."""
    lengths = np.asarray(lengths, np.int64)
    part = (np.arange(len(lengths)) * parts // len(lengths)).astype(np.int32)
    starts = np.zeros(len(lengths), np.int64)
    for value in range(parts):
        chosen = part == value
        starts[chosen] = np.cumsum(lengths[chosen]) - lengths[chosen]
    return Corpus(number, part, starts, lengths)


def label_places(pieces: np.ndarray) -> list[tuple[int, int, int]]:
    """(source, part, position) of every label token of some pieces, in order."""
    return [
        (source, part, position)
        for source, part, start, length, context in pieces.tolist()
        for position in range(start + context, start + length)
    ]
