"""LISA: which layers train is a pure function of (seed, step), and resting layers rest."""

import pytest
import torch

from schemas.errors import UserError
from schemas.spec.methods.subset import Lisa
from tasks.training.attach import attach
from tasks.training.device import find_device
from tasks.training.methods import lisa
from tasks.training.models.load import load_model
from tasks.training.train import _make_trainer
from tests.tiny_base import TINY, make_base
from tests.training.methods.tiny_models import context
from tests.training.prepared import prepare_inputs, spec_of


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    """Five layers to draw from."""
    return make_base(tmp_path_factory.mktemp("deep") / "model", TINY.model_copy(update={"layers": 5}))


def test_layers_are_drawn_by_seed_and_period_alone(deep):
    settings = Lisa(layers=2, interval=3)
    tuned, again = (lisa.attach(load_model(deep), settings, context()) for _ in range(2))
    drawn = [tuned.layers_of(step) for step in range(300)]
    assert drawn == [again.layers_of(step) for step in range(300)]
    assert all(len(set(layers)) == 2 for layers in drawn)
    assert all(len({drawn[i], drawn[i + 1], drawn[i + 2]}) == 1 for i in range(0, 300, 3))
    counts = [sum(layer in layers for layers in drawn) / 300 for layer in range(5)]
    assert counts == pytest.approx([0.4] * 5, abs=0.15), "each layer its share"
    other = lisa.attach(load_model(deep), settings, context(seed=18))
    assert drawn != [other.layers_of(step) for step in range(300)]


def test_resting_layers_do_not_move_and_keep_no_optimizer_state(root, deep, tmp_path):
    from transformers import TrainerCallback

    method = {"kind": "lisa", "layers": 2, "interval": 3}
    training = {"steps": 9, "weight_decay": 0.1, "warmup_ratio": 0, "schedule": "constant"}
    spec = spec_of(root, deep, method=method, training=training)
    inputs = prepare_inputs(root, spec)
    tuned = attach(spec, inputs, find_device())
    trainer, _ = _make_trainer(tuned, tmp_path, spec, inputs, find_device(), None)
    names = dict(tuned.model.named_parameters())
    assert all(p.requires_grad for p in names.values())
    seen = []

    class Watch(TrainerCallback):
        before = None

        def on_step_begin(self, *_, **__):
            self.before = {name: p.detach().clone() for name, p in names.items()}

        def on_optimizer_step(self, args, state, control, optimizer, **_):
            moved = {name for name, p in names.items() if not torch.equal(p, self.before[name])}
            held = {name for name, p in names.items() if p in optimizer.state}
            seen.append((state.global_step, moved, held))

    trainer.add_callback(Watch())
    trainer.train()
    tuned.finish()
    assert len(seen) == 9
    assert len({tuned.layers_of(step) for step, _, _ in seen}) > 1
    for step, moved, held in seen:
        active = tuned.layers_of(step)
        wanted = {n for n in names if ".layers." not in n or int(n.split(".")[2]) in active}
        assert held == wanted
        assert moved == wanted
    assert all(p.requires_grad for p in names.values())
    assert tuned.facts()["layer_steps"] == {
        str(layer): sum(layer in tuned.layers_of(step) for step in range(9)) for layer in range(5)
    }


def test_more_layers_than_there_are_are_refused(deep):
    with pytest.raises(UserError, match="6 layers are to train at a time, but the model has 5") as error:
        lisa.attach(load_model(deep), Lisa(layers=6), context())
    assert error.value.where == "method.layers"
