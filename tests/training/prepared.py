"""A real training run in small: prose, a tiny model, and the training step as a process that can be killed."""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from schemas.errors import UserError
from schemas.spec.run import RunSpec
from tasks.data.plan.plan import open_sources, plan_training
from tasks.data.tokens.tokenize import tokenize_source
from tasks.data.tokens.tokenizer import special_ids
from tasks.storage.steps import Step
from tasks.training.inputs import TrainingInputs
from tasks.training.train import train
from tests.corpora import here, make_spec, prepare_rows, source, write_rows
from tests.tiny_base import prose


def spec_of(folder: Path, base: Path, **keys: Any) -> RunSpec:
    """A run of 24 steps of 4 x 32 tokens on English prose, written to `folder`."""
    if not (folder / "domain.jsonl").is_file():
        write_rows(folder / "domain.jsonl", [line[:300] for line in prose("en_*")])
        write_rows(folder / "general.jsonl", [line[:300] for line in prose("zh_*")[:20]])
    training = {"steps": 24, "checkpoint_every": 5, "learning_rate": 0.01, **keys.pop("training", {})}
    if training.keys() & {"tokens", "epochs"}:
        del training["steps"]
    return make_spec(
        base=str(base),
        domain=[source(folder / "domain.jsonl")],
        evaluation={"domain_holdout": 0.1, "general": [source(folder / "general.jsonl")]},
        training=training,
        **keys,
    )


def prepare_inputs(root: Path, spec: RunSpec) -> TrainingInputs:
    """Do the data stages (finished ones are no-ops) and open what training reads."""
    base = Path(spec.base)
    prepared = prepare_rows(root, spec)
    special = special_ids(base)
    steps = [tokenize_source(root, rows, base, here) for rows in prepared.training]
    plan = plan_training(root, spec, prepared.training, steps, prepared.divided, special)
    return TrainingInputs(base, spec.base, plan, open_sources(prepared.training, steps, special), special)


def train_here(
    root: Path, spec: RunSpec, state: Path | None = None, on_metrics: Callable | None = None
) -> Step:
    """Prepare under `root` and train under `state`."""
    return train(state or root, spec, prepare_inputs(root, spec), on_metrics)


def train_in_process(root: str, spec: str, state: str, killed_at: int | None = None) -> None:
    """What a training process does; its exit code is the error's. It is killed when step `killed_at` is done."""
    import torch

    torch.set_num_threads(1)  # as in the tests' own process: the number of threads can change the last bit

    def kill(metrics: Any, total: int) -> None:
        if metrics.step == killed_at:
            os.kill(os.getpid(), signal.SIGKILL)

    try:
        train_here(Path(root), RunSpec.model_validate(json.loads(spec)), Path(state), kill)
    except UserError as error:
        sys.exit(int(error.exit_code))
