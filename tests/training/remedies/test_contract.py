"""What every remedy promises, checked for each row of the registry."""

import dataclasses
from pathlib import Path
from typing import Any, get_args

import pytest
from safetensors.torch import load_file

from schemas.reading.explain import _models, _tag
from schemas.spec.methods.base import MethodSettings
from schemas.spec.objectives import ObjectiveSettings
from schemas.spec.remedies import Remedy
from schemas.spec.remedy_rules import refusal
from schemas.spec.run import RunSpec
from tasks.storage.steps import Step
from tasks.training.loop.checkpoints import list_checkpoints
from tasks.training.methods.registry import METHODS
from tasks.training.models.load import load_model
from tasks.training.remedies.registry import REMEDIES
from tasks.training.step import training_plan
from tests.training.remedies.small import SMALL, for_heads, inputs_of, spec_for, train_here

LORA = {"kind": "lora", "r": 4, "alpha": 16}
FOR_METHOD: dict[str, dict[str, Any]] = {"full": {"kind": "full"}, "lora": LORA}


def weights(step: Step) -> dict[str, bytes]:
    """Every number that is deployed."""
    (file,) = (step.folder / "model").glob("*.safetensors")
    return {name: tensor.numpy().tobytes() for name, tensor in load_file(file).items()}


def remedied(root: Path, base: Path, kind: str, method: str = "full", **training: Any) -> RunSpec:
    remedy = {"kind": kind, **SMALL[kind]}
    return spec_for(root, base, kind, remedy, method=FOR_METHOD[method], training=training)


def methods_of(kind: str) -> list[str]:
    settings = REMEDIES[kind].settings
    return [method for method in FOR_METHOD if refusal(settings, METHODS[method].settings) is None]


def on(turn: int) -> pytest.MarkDecorator:
    """Each remedy once, the methods in turn: `on(0)` and `on(1)` are all of them."""
    cases = [(k, methods_of(k)[(n + turn) % len(methods_of(k))]) for n, k in enumerate(REMEDIES)]
    return pytest.mark.parametrize(("kind", "method"), cases)


def test_every_remedy_has_small_settings_here():
    assert list(SMALL) == list(REMEDIES) == [_tag(model) for model in _models(get_args(Remedy)[0])]


@pytest.mark.parametrize("kind", REMEDIES)
def test_every_row_of_the_registry_is_filled_in(kind):
    row = REMEDIES[kind]
    optional = {"prepare", "reads", "experimental"}
    assert all(getattr(row, field.name) for field in dataclasses.fields(row) if field.name not in optional)
    assert row.settings.model_fields["kind"].default == kind
    assert row.settings(**SMALL[kind]).kind == kind


@pytest.mark.parametrize("kind", REMEDIES)
def test_what_a_remedy_asks_of_methods_and_objectives_is_something_they_say(kind):
    settings = REMEDIES[kind].settings
    assert all(hasattr(MethodSettings, capability) for capability in settings.not_with)
    assert set(settings.updates or ()) <= {entry.settings.update for entry in METHODS.values()}
    assert settings.objectives is None or hasattr(ObjectiveSettings, settings.objectives)


@on(0)
def test_it_changes_what_is_trained_and_says_how(root, base, tmp_path, kind, method):
    step = train_here(root, remedied(root, base, kind, method), tmp_path / "with")
    plain = train_here(root, spec_for(root, base, kind, method=FOR_METHOD[method]), tmp_path / "without")
    assert step.key != plain.key
    assert weights(step).keys() == weights(plain).keys()
    assert weights(step) != weights(plain)
    assert step.facts["remedies"].keys() == {kind}
    assert plain.facts["remedies"] == {}
    load_model(step.folder / "model", None, "text_classification" if for_heads(kind) else "language_modeling")


@on(1)
def test_stopped_in_the_middle_it_goes_on_to_the_same_weights(root, base, tmp_path, kind, method):
    spec = remedied(root, base, kind, method)
    undisturbed = train_here(root, spec, tmp_path / "whole")
    state = tmp_path / "stopped"

    def stop(metrics: Any, total: int) -> None:
        if metrics.step == 5:
            raise RuntimeError("the power is gone")

    with pytest.raises(RuntimeError, match="the power is gone"):
        train_here(root, spec, state, stop)
    scratch = training_plan(state, spec, inputs_of(root, spec)).scratch
    assert [path.name for path in list_checkpoints(scratch / "checkpoints")] == ["step-3"]
    resumed = train_here(root, spec, state)
    assert resumed.facts["weights"] == undisturbed.facts["weights"]
    assert resumed.facts["remedies"] == undisturbed.facts["remedies"]


@pytest.mark.parametrize("kind", REMEDIES)
def test_methods_that_it_cannot_work_on_are_refused(root, base, kind):
    row = REMEDIES[kind].settings
    there = [
        kind_ for kind_, entry in METHODS.items() if for_heads(kind) or not entry.settings.needs_task_head
    ]
    refused = [other for other in there if refusal(row, METHODS[other].settings) is not None]
    for other in refused[:2]:
        with pytest.raises(ValueError, match=f"{kind} cannot be computed for method '{other}'.*; ?.*use "):
            spec_for(root, base, kind, {"kind": kind, **SMALL[kind]}, method={"kind": other})
