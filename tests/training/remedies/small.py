"""Settings of every remedy that suit the tiny models of the tests, and a run that has general text."""

from pathlib import Path
from typing import Any

from schemas.run import RunSpec
from tasks.training.remedies.self_replay import with_self_replay
from tests.corpora import source, write_rows
from tests.tiny_base import prose
from tests.training.prepared import spec_of

SMALL: dict[str, dict[str, Any]] = {
    "ewc": {"strength": 1e4, "general_tokens": 600},
    "distillation": {"strength": 4.0, "top_k": 8},
    "weight_averaging": {"points": 3, "development_tokens": 400, "general_weight": 1.0},
    "ema": {"decay": 0.7},
    "loss_weighting": {"domain": 0.5, "replay": 3.0},
    "easy_samples": {"temperature": 0.5},
    "self_replay": {"tokens": 2500, "max_new_tokens": 5, "min_tokens": 4, "min_distinct": 0},
    "step_scaling": {"power": 2.0, "general_tokens": 600},
}
"""kind -> settings that can be felt in a few steps."""


def spec_with(root: Path, base: Path, *remedies: dict[str, Any], **keys: Any) -> RunSpec:
    """Eight steps on English prose, a quarter of the tokens Chinese replay, with these remedies."""
    if not (root / "replay.jsonl").is_file():
        lines = [line[start : start + 60] for line in prose("zh_*")[20:] for start in range(0, 300, 60)]
        write_rows(root / "replay.jsonl", [line for line in lines if len(line) > 20])
    training = {"steps": 8, "checkpoint_every": 3, "micro_batch_tokens": 64, **keys.pop("training", {})}
    if training.keys() & {"tokens", "epochs"}:
        del training["steps"]
    keys = {"mixture": {"replay_ratio": 0.25}, "replay": [source(root / "replay.jsonl")], **keys}
    spec = spec_of(root, base, remedies=list(remedies), training=training, **keys)
    return with_self_replay(root, spec, None)
