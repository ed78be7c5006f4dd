"""No setting of a method is read by nothing: each one, changed, changes what is saved.

The table must name every key of the methods it lists, so a new key without an effect to show fails here.
(LoRA's keys are in tests/training/test_dead_settings.py.)
"""

from typing import Any

import pytest
from safetensors.torch import load_file

from schemas.spec.methods.union import Full
from tasks.training.methods.registry import METHODS
from tasks.training.train import train
from tests.tiny_base import TINY, make_base
from tests.training.methods.small import WIDE
from tests.training.methods.tiny_models import biased_llama
from tests.training.prepared import prepare_inputs, spec_of

ONE = ["q_proj"]
CHANGES: dict[str, tuple[dict[str, Any], dict[str, dict[str, Any]]]] = {
    "full": ({"anchor": "l2_sp", "anchor_strength": 5.0}, {"anchor": {"anchor": "decay_to_base"}, "anchor_strength": {"anchor_strength": 9.0}}),
    "adalora": (
        {"init_r": 4, "target_r": 2, "delta_t": 1},
        {
            "init_r": {"init_r": 5}, "target_r": {"target_r": 1}, "alpha": {"alpha": 64}, "dropout": {"dropout": 0.3},
            "target_modules": {"target_modules": ONE}, "warmup_ratio": {"warmup_ratio": 0.5}, "final_ratio": {"final_ratio": 0.1},
            "delta_t": {"delta_t": 3}, "beta1": {"beta1": 0.1}, "beta2": {"beta2": 0.1}, "orthogonality": {"orthogonality": 0.0},
        },
    ),
    "qlora": (
        {"r": 4},
        {"r": {"r": 3}, "alpha": {"alpha": 8}, "dropout": {"dropout": 0.3}, "target_modules": {"target_modules": ONE},
         "double_quantization": {"double_quantization": False}},
    ),
    "ia3": ({}, {"target_modules": {"target_modules": ONE}, "feedforward_modules": {"feedforward_modules": ["up_proj"]}}),
    "vera": (
        {"r": 8},
        {"r": {"r": 7}, "d_initial": {"d_initial": 0.2}, "dropout": {"dropout": 0.3}, "target_modules": {"target_modules": ONE}},
    ),
    "osf": ({}, {"preserved_ratio": {"preserved_ratio": 0.75}, "target_modules": {"target_modules": ONE}}),
    "prompt_tuning": (
        {"virtual_tokens": 4},
        {"virtual_tokens": {"virtual_tokens": 5}, "init": {"init": "random"}, "text": {"init": "text", "text": "old"}},
    ),
    "prefix_tuning": ({"virtual_tokens": 4, "hidden_size": 8}, {"virtual_tokens": {"virtual_tokens": 5}, "hidden_size": {"hidden_size": 9}}),
    "p_tuning": (
        {"virtual_tokens": 4, "hidden_size": 8, "encoder": "lstm"},
        {"virtual_tokens": {"virtual_tokens": 5}, "encoder": {"encoder": "mlp"}, "hidden_size": {"hidden_size": 9}, "dropout": {"dropout": 0.3}},
    ),
    "p_tuning_v2": ({"virtual_tokens": 4}, {"virtual_tokens": {"virtual_tokens": 5}}),
    "selective": (
        {"choose": "gradient", "layers": 2, "gradient_batches": 1},
        {"choose": {"choose": "last", "gradient_batches": None}, "layers": {"layers": 3}, "gradient_batches": {"gradient_batches": 3},
         "patterns": {"choose": "patterns", "patterns": ["*norm*"], "layers": None, "gradient_batches": None}},
    ),
    "bitfit": ({}, {"biases": {"biases": "query_and_second_mlp"}}),
    "lisa": ({"layers": 1, "interval": 1}, {"layers": {"layers": 2}, "interval": {"interval": 3}}),
    "sparse": ({"trainable_ratio": 0.1}, {"trainable_ratio": {"trainable_ratio": 0.2}, "target_modules": {"target_modules": "all"}}),
    "fisher": ({"trainable_ratio": 0.01, "samples": 2}, {"trainable_ratio": {"trainable_ratio": 0.02}, "samples": {"samples": 9}, "target_modules": {"target_modules": ONE}}),
    "diff_pruning": (
        {"target_ratio": 0.1},
        {"target_ratio": {"target_ratio": 0.2}, "sparsity_penalty": {"sparsity_penalty": 1e-3}, "alpha_initial": {"alpha_initial": 0.0},
         "final_ratio": {"final_ratio": 0.5}, "target_modules": {"target_modules": ONE}},
    ),
}  # fmt: skip
"""kind -> settings, and for each key the settings that change it."""

EXCUSED = {("selective", "gradient_batches"): "tests/training/methods/test_own_weights.py compares the norms"}


@pytest.fixture(scope="module")
def bases(base, wide_base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bases")
    deep = make_base(folder / "deep", TINY.model_copy(update={"layers": 4}))
    return {"bitfit": biased_llama(base, folder / "biased"), "lisa": deep, "selective": deep} | dict.fromkeys(
        WIDE, wide_base
    )


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    """kind -> what its first settings gave."""
    return {}


def saved(root, base, state, kind, settings) -> Any:
    method = {"kind": kind, **{key: value for key, value in settings.items() if value is not None}}
    spec = spec_of(root, base, method=method, training={"steps": 4, "warmup_ratio": 0})
    folder = train(state, spec, prepare_inputs(root, spec)).folder / "model"
    return {
        (file.name, name): (tuple(tensor.shape), tensor.numpy().tobytes())
        for file in folder.glob("*.safetensors")
        for name, tensor in load_file(file).items()
    }


def test_the_table_names_every_key():
    for kind, (_, changes) in CHANGES.items():
        assert changes.keys() == METHODS[kind].settings.model_fields.keys() - {"kind"}, kind
    assert Full.model_fields.keys() == {"kind", "anchor", "anchor_strength"}


@pytest.mark.parametrize(
    ("kind", "key"), [(kind, key) for kind, (_, changes) in CHANGES.items() for key in changes]
)
def test_a_setting_changes_what_is_saved(root, base, bases, results, tmp_path, kind, key):
    first, changes = CHANGES[kind]
    base = bases.get(kind, base)
    if kind not in results:
        results[kind] = saved(root, base, tmp_path / "first", kind, first)
    if (kind, key) in EXCUSED:
        return
    assert saved(root, base, tmp_path / "changed", kind, first | changes[key]) != results[kind]
