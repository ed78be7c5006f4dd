"""No setting of an inserted module is read by nothing: each one, changed, changes what the trained model computes."""

from pathlib import Path
from typing import Any

import pytest
import torch

from schemas.spec.methods.adapters import (
    Adapter,
    AdapterDrop,
    AdapterParallel,
    AdapterPfeiffer,
    Mam,
    PTuningTemplate,
    Unipelt,
)
from tasks.training.models.load import load_model
from tests.training.prepared import spec_of, train_here

IDS = torch.arange(3, 40)[None]
BOTTLENECK: dict[str, Any] = {
    "size": {"size": 5},
    "reduction_factor": {"size": None, "reduction_factor": 8},
    "activation": {"activation": "tanh"},
    "dropout": {"dropout": 0.3},
}
PREFIX: dict[str, Any] = {"prefix_length": {"prefix_length": 4}, "prefix_mlp_size": {"prefix_mlp_size": None}}
SMALL: dict[type[Any], dict[str, Any]] = {
    Adapter: {"size": 4},
    AdapterPfeiffer: {"size": 4},
    AdapterParallel: {"size": 4},
    AdapterDrop: {"size": 4, "drop_blocks": 1, "training": "specialized"},
    Mam: {"size": 4, "prefix_length": 3, "prefix_mlp_size": 8},
    Unipelt: {"size": 4, "r": 2, "prefix_length": 3, "prefix_mlp_size": 8},
    PTuningTemplate: {"template": "{v3}{text}"},
}
CHANGES: dict[type[Any], dict[str, dict[str, Any]]] = {
    Adapter: {**BOTTLENECK, "train_norms": {"train_norms": False}},
    AdapterPfeiffer: BOTTLENECK,
    AdapterParallel: {**BOTTLENECK, "scale": {"scale": 2.0}},
    AdapterDrop: {**BOTTLENECK, "training": {"training": "robust"}, "drop_blocks": {"training": "robust", "drop_blocks": 0}},
    Mam: {**BOTTLENECK, **PREFIX, "scale": {"scale": 2.0}},
    Unipelt: {**BOTTLENECK, **PREFIX, "r": {"r": 3}, "alpha": {"alpha": 4.0}},
    PTuningTemplate: {"template": {"template": "{v2}{text:5}{v1}{text}"}, "encoder": {"encoder": "mlp"}},
}  # fmt: skip
CASES = [(settings, key) for settings, changes in CHANGES.items() for key in changes]


@pytest.fixture(scope="module")
def computed(root: Path, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(settings class, changes) -> logits of the trained model as it is deployed."""
    state, done = tmp_path_factory.mktemp("settings"), {}

    def provide(settings: type[Any], changes: dict[str, Any]) -> torch.Tensor:
        method = {"kind": settings.model_fields["kind"].default, **SMALL[settings], **changes}
        if (key := repr(sorted(method.items()))) not in done:
            spec = spec_of(root, base, method=method, training={"steps": 5, "learning_rate": 0.1})
            model = load_model(train_here(root, spec, state).folder / "model")
            with torch.inference_mode():
                done[key] = model(input_ids=IDS).logits
        return done[key]

    return provide


@pytest.mark.parametrize("settings", CHANGES, ids=lambda settings: settings.__name__)
def test_the_tables_name_every_key(settings):
    elsewhere = {"per_task"} if settings is AdapterPfeiffer else set()  # of several tasks: test_tasks.py
    assert {"kind", *CHANGES[settings], *elsewhere} == settings.model_fields.keys()


@pytest.mark.parametrize(("settings", "key"), CASES, ids=lambda part: getattr(part, "__name__", part))
def test_a_setting_changes_what_the_model_computes(computed, settings, key):
    before = {"training": "robust", "drop_blocks": 1} if key == "drop_blocks" else {}
    assert not torch.equal(computed(settings, before), computed(settings, CHANGES[settings][key]))
