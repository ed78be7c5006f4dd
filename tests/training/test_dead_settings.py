"""No setting is read by nothing: each one, changed, changes what is trained or scored.

The tables below must name every key of their schema, so a new key without an effect to show fails here.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

from schemas.spec.evaluation import Evaluation
from schemas.spec.methods.union import Lora
from schemas.spec.mixture import Mixture
from schemas.spec.run import RunSpec
from schemas.spec.training import Training
from tasks.data.plan.plan import load_plan
from tasks.data.prepare import Tokenized
from tasks.data.tokens.tokenize import tokenize_source
from tasks.data.tokens.tokenizer import special_ids
from tasks.evaluation.suites.build import build_suites
from tasks.training.loop.checkpoints import list_checkpoints
from tasks.training.step import training_plan
from tests.corpora import here, prepare_rows, source, write_rows
from tests.tiny_base import prose
from tests.tiny_encoder import make_encoder
from tests.toy_heads import toy_texts
from tests.training.heads import head_spec, prepare_head
from tests.training.prepared import prepare_inputs, spec_of, train_here

LORA = {"kind": "lora", "r": 4, "alpha": 8}
STEPS = {"steps": 4, "warmup_ratio": 0.5}
INFINITE = {"steps": 4, "warmup_ratio": 0.0, "schedule": "infinite"}


def plan_bytes(spec: RunSpec, root: Path, state: Path) -> Any:
    """What is laid out, and in how many steps it is trained."""
    plan = prepare_inputs(root, spec).plan
    pieces, sequences = load_plan(plan)
    return pieces.tobytes(), sequences.tobytes(), plan.facts["report"]["steps"]


def trained_weights(spec: RunSpec, root: Path, state: Path) -> Any:
    """Every number of the trained weights."""
    (file,) = (train_here(root, spec, state).folder / "model").glob("*.safetensors")
    return {name: (tensor.shape, tensor.numpy().tobytes()) for name, tensor in load_file(file).items()}


def checkpoints_seen(spec: RunSpec, root: Path, state: Path) -> Any:
    """Which checkpoints there were after each step."""
    folder = training_plan(state, spec, prepare_inputs(root, spec)).scratch / "checkpoints"
    seen: list[list[str]] = []
    train_here(
        root, spec, state, lambda metrics, total: seen.append([p.name for p in list_checkpoints(folder)])
    )
    return seen


def batch_shapes(spec: RunSpec, root: Path, state: Path) -> Any:
    """Sequences in each forward pass."""
    from tasks.training.attach import attach
    from tasks.training.device import find_device
    from tasks.training.train import _make_trainer

    inputs = prepare_inputs(root, spec)
    tuned = attach(spec, inputs, find_device())
    trainer, _ = _make_trainer(tuned, state, spec, inputs, find_device(), None)
    return [len(batch["input_ids"]) for batch in trainer.get_train_dataloader()]


def layer_calls(spec: RunSpec, root: Path, state: Path) -> Any:
    """How often the first feed-forward layer was begun: twice a micro-batch where activations are computed again."""
    from tasks.training.attach import attach
    from tasks.training.device import find_device
    from tasks.training.train import _make_trainer

    inputs = prepare_inputs(root, spec)
    tuned = attach(spec, inputs, find_device())
    calls: list[int] = []
    tuned.model.model.layers[0].mlp.register_forward_pre_hook(lambda *_: calls.append(1))
    _make_trainer(tuned, state, spec, inputs, find_device(), None)[0].train()
    return len(calls)


Observe = Callable[[RunSpec, Path, Path], Any]

TRAINING: dict[str, tuple[dict[str, Any], dict[str, Any], Observe]] = {
    "tokens": ({"tokens": 500}, {"tokens": 700}, plan_bytes),
    "epochs": ({"epochs": 0.5}, {"epochs": 0.6}, plan_bytes),
    "steps": ({"steps": 4}, {"steps": 5}, plan_bytes),
    "documents": ({"tokens": 500}, {"documents": 3}, plan_bytes),
    "sequence_length": (STEPS, {"sequence_length": 64}, plan_bytes),
    "batch_tokens": ({"tokens": 1000}, {"batch_tokens": 64}, plan_bytes),
    "micro_batch_tokens": (STEPS, {"micro_batch_tokens": 32}, batch_shapes),
    "learning_rate": (STEPS, {"learning_rate": 0.011}, trained_weights),
    "schedule": (STEPS, {"schedule": "constant"}, trained_weights),
    "decay_ratio": (STEPS | {"schedule": "wsd"}, {"decay_ratio": 0.5}, trained_weights),
    "cooldown_ratio": (INFINITE, {"cooldown_ratio": 0.75}, trained_weights),
    "constant_ratio": (INFINITE, {"constant_ratio": 0.3}, trained_weights),
    "min_ratio": (INFINITE | {"decay_ratio": 0.5}, {"min_ratio": 0.2}, trained_weights),
    "warmup_ratio": (STEPS, {"warmup_ratio": 0.25}, trained_weights),
    "weight_decay": (STEPS, {"weight_decay": 0.1}, trained_weights),
    "adam_beta2": (STEPS, {"adam_beta2": 0.99}, trained_weights),
    "max_grad_norm": (STEPS, {"max_grad_norm": 1e-6}, trained_weights),
    "gradient_checkpointing": (STEPS, {"gradient_checkpointing": True}, layer_calls),
    "checkpoint_every": (STEPS | {"checkpoint_every": 3}, {"checkpoint_every": 1}, checkpoints_seen),
    "seed": (STEPS, {"seed": 18}, plan_bytes),
}
METHOD: dict[str, dict[str, Any]] = {
    "kind": {"kind": "full"},
    "r": {"r": 3},
    "alpha": {"alpha": 9.0},
    "dropout": {"dropout": 0.2},
    "target_modules": {"target_modules": ["q_proj"]},
    "rank_stabilized": {"rank_stabilized": True},
    "weight_decomposed": {"weight_decomposed": True},
    "init": {"init": "pissa"},
    "learning_rate_ratio": {"learning_rate_ratio": 4.0},
}


def test_the_tables_name_every_key():
    assert TRAINING.keys() == Training.model_fields.keys()
    assert METHOD.keys() == Lora.model_fields.keys()
    assert EVALUATION.keys() == Evaluation.model_fields.keys()
    others = {"replay_ratio", "forgetting_budget", "proxies", "class_temperature"}
    assert Mixture.model_fields.keys() == {*others, *MIXTURE}


def keys_of(spec: RunSpec, root: Path, state: Path) -> tuple[str, str]:
    inputs = prepare_inputs(root, spec)
    return inputs.plan.key, training_plan(state, spec, inputs).key


@pytest.mark.parametrize("key", TRAINING)
def test_a_training_setting_changes_what_is_done_and_the_name_of_the_step(root, base, tmp_path, key):
    before, change, observe = TRAINING[key]
    specs = [spec_of(root, base, training=training) for training in (before, before | change)]
    assert keys_of(specs[0], root, tmp_path) != keys_of(specs[1], root, tmp_path)
    first, second = (observe(spec, root, tmp_path / str(n)) for n, spec in enumerate(specs))
    assert first != second
    assert observe(specs[0], root, tmp_path / "again") == first, "the difference is chance, not the setting"


OWN = {
    "wsd": {"decay_ratio": 0.4},
    "infinite": {"cooldown_ratio": 0.3, "decay_ratio": 0.2, "constant_ratio": 0.6, "min_ratio": 0.2},
}


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine", "wsd", "infinite"])
def test_every_schedule_is_itself(root, base, tmp_path, schedule):
    from tasks.training.loop.progress_file import read_metrics

    training = {"steps": 10, "warmup_ratio": 0.2, "schedule": schedule, **OWN.get(schedule, {})}
    step = train_here(root, spec_of(root, base, training=training), tmp_path)
    rates = [line.learning_rate for line in read_metrics(step.folder / "metrics.jsonl")]
    left = np.arange(8) / 8
    decay = {
        "constant": np.ones(8),
        "linear": 1 - left,
        "cosine": (1 + np.cos(np.pi * left)) / 2,
        "wsd": [1, 1, 1, 1, *(1 - np.sqrt(np.arange(4) / 4))],
        "infinite": [
            *(0.6 + 0.2 * (1 + np.cos(np.pi * np.arange(3) / 3))),
            0.6,
            0.6,
            0.6,
            0.6,
            0.6 * (1 / 3) ** 0.5,
        ],
    }[schedule]
    assert rates == pytest.approx([0, 0.005, *(0.01 * np.array(decay))], abs=1e-12)


@pytest.mark.parametrize("key", METHOD)
def test_a_lora_setting_changes_the_weights(root, base, tmp_path, key):
    change = {"kind": "full"} if key == "kind" else LORA | METHOD[key]
    specs = [spec_of(root, base, method=method, training=STEPS) for method in (LORA, change)]
    assert keys_of(specs[0], root, tmp_path)[1] != keys_of(specs[1], root, tmp_path)[1]
    assert trained_weights(specs[0], root, tmp_path) != trained_weights(specs[1], root, tmp_path)


def test_the_replay_ratio_changes_the_plan(root, base, tmp_path):
    write_rows(tmp_path / "replay.jsonl", [line[:300] for line in prose("zh_*")[20:60]])
    replay = [source(tmp_path / "replay.jsonl")]
    plans = [
        plan_bytes(spec_of(root, base, mixture={"replay_ratio": ratio}, replay=replay), root, tmp_path)
        for ratio in (0.2, 0.21)
    ]
    assert plans[0] != plans[1]


MIXTURE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "temperature": ({"temperature": 1}, {"temperature": 5}),
    "importance": ({"importance": "towards_domain"}, {"importance": "away_from_domain"}),
}


@pytest.mark.parametrize("key", MIXTURE)
def test_a_mixture_setting_changes_the_plan(root, base, tmp_path, key):
    for name, lines in (("one", prose("zh_*")[20:60]), ("two", prose("zh_*")[60:])):
        write_rows(root / f"{name}.jsonl", [line[:80] for line in lines])
    replay = [source(root / f"{name}.jsonl") for name in ("one", "two")]
    plans = [
        plan_bytes(spec_of(root, base, mixture={"replay_ratio": 0.2, **own}, replay=replay), root, tmp_path)
        for own in ({}, *MIXTURE[key])
    ]
    assert plans[0] != plans[1]
    assert plans[1] != plans[2]


def test_the_class_temperature_changes_the_plan(tmp_path):
    encoder = make_encoder(tmp_path / "encoder", toy_texts())
    plans = []
    for own in ({}, {"class_temperature": 2}, {"class_temperature": 5}):
        spec = head_spec(tmp_path, "text_classification", encoder, mixture={"replay_ratio": 0, **own})
        plan = prepare_head(tmp_path / "state", spec)[2].plan
        plans.append((plan.key, load_plan(plan)[0].tobytes()))
    assert len({key for key, _ in plans}) == len({pieces for _, pieces in plans}) == 3


def scored(root: Path, base: Path, evaluation: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """Name and documents of every suite."""
    spec = spec_of(root, base)
    spec = spec.model_copy(update={"evaluation": Evaluation.model_validate(evaluation)})
    prepared = prepare_rows(root, spec)
    special = special_ids(base)
    steps = {s.label: tokenize_source(root, s, base, here) for s in prepared.sources}
    suites = build_suites(spec, prepared, Tokenized(special, steps, prepare_inputs(root, spec).plan), turn=0)
    return [(suite.name, [item.id for item in suite.items]) for suite in suites]


EVALUATION: dict[str, dict[str, Any]] = {
    "domain_holdout": {"domain_holdout": 0.3},
    "domain": {"domain_holdout": None, "domain": ["other"]},
    "general": {"general": ["general", "other"]},
    "max_tokens": {"max_tokens": 300},
    "parts": {"parts": 2},
}


@pytest.mark.parametrize("key", EVALUATION)
def test_an_evaluation_setting_changes_what_is_scored(root, base, key):
    write_rows(root / "other.jsonl", [line[:200] for line in prose("en_*")[100:115]])
    spec_of(root, base)  # writes the other files

    def sources(names: Any) -> Any:
        return [source(root / f"{name}.jsonl") for name in names] if isinstance(names, list) else names

    whole = {"domain_holdout": 0.1, "general": ["general"]}
    before, after = (
        scored(root, base, {name: sources(value) for name, value in evaluation.items()})
        for evaluation in (whole, whole | EVALUATION[key])
    )
    assert before != after
