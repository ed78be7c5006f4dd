"""Settings of every remedy that suit the tiny models of the tests, and a run that has general text."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from flows.growing.effective import effective
from flows.progress.watch import Silent
from schemas.spec.objectives import LanguageModeling
from schemas.spec.run import RunSpec
from tasks.storage.steps import Step
from tasks.training.inputs import TrainingInputs
from tasks.training.remedies.registry import REMEDIES
from tasks.training.train import train
from tests.corpora import source, write_rows
from tests.tiny_base import prose
from tests.toy_heads import labelled_rows, write_labelled
from tests.training.heads import head_spec, prepare_head
from tests.training.prepared import prepare_inputs, spec_of

SMALL: dict[str, dict[str, Any]] = {
    "ewc": {"strength": 1e4, "general_tokens": 600},
    "distillation": {"strength": 4.0, "top_k": 8},
    "weight_averaging": {"points": 3, "development_tokens": 400, "general_weight": 1.0},
    "ema": {"decay": 0.7},
    "loss_weighting": {"domain": 0.5, "replay": 3.0},
    "easy_samples": {"temperature": 0.5},
    "domain_adversarial": {"strength": 8.0, "gamma": 20.0, "hidden_size": 8},
    "self_replay": {"tokens": 2500, "max_new_tokens": 5, "min_tokens": 4, "min_distinct": 0},
    "step_scaling": {"power": 2.0, "general_tokens": 600},
}
"""kind -> settings that can be felt in a few steps."""


def for_heads(kind: str) -> bool:
    """Whether a remedy works with a head and not with language modelling."""
    objectives = REMEDIES[kind].settings.objectives
    return objectives is not None and not getattr(LanguageModeling, objectives)


def spec_for(root: Path, base: Path, kind: str, *remedies: dict[str, Any], **keys: Any) -> RunSpec:
    """Eight steps of an objective that a remedy of this kind works with, and these remedies."""
    return (head_spec_with if for_heads(kind) else spec_with)(root, base, *remedies, **keys)


def head_spec_with(root: Path, base: Path, *remedies: dict[str, Any], **keys: Any) -> RunSpec:
    """Eight steps on texts of three trades; nearly half of the tokens are replay of the same labels in other words."""
    folder = root / "heads"
    folder.mkdir(exist_ok=True)
    rows = [{**row, "text": f"{row['text']} - the end of it all"} for row in labelled_rows(120, seed=9)]
    write_labelled(folder / "replay.jsonl", rows)
    training = {
        "epochs": None,
        "steps": 8,
        "checkpoint_every": 3,
        "batch_tokens": 192,
        "micro_batch_tokens": 96,
    }
    keys = {
        "mixture": {"replay_ratio": 0.4},
        "replay": [{"path": str(folder / "replay.jsonl"), "contract": "labeled_text"}],
        **keys,
        "training": {**training, **keys.pop("training", {})},
    }
    return head_spec(folder, "text_classification", base, remedies=list(remedies), **keys)


def inputs_of(root: Path, spec: RunSpec) -> TrainingInputs:
    """What training reads, of language modelling or of a head."""
    return (
        prepare_inputs(root, spec)
        if spec.objective.kind == "language_modeling"
        else prepare_head(root, spec)[2]
    )


def train_here(
    root: Path, spec: RunSpec, state: Path | None = None, on_metrics: Callable[..., None] | None = None
) -> Step:
    """Prepare under `root` and train under `state`."""
    return train(state or root, spec, inputs_of(root, spec), on_metrics)


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
    return effective(spec, root, None, Silent())
