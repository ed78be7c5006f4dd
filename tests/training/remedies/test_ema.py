"""EMA: what is deployed is the written formula over the weights of every step."""

import pytest
import torch
from safetensors.torch import load_file

from tasks.training.loop.checkpoints import list_checkpoints
from tasks.training.step import training_plan
from tests.training.prepared import prepare_inputs, train_here
from tests.training.remedies.small import spec_with


def test_what_is_deployed_is_the_average_of_all_steps(root, base, tmp_path):
    """The weights of each step are read from checkpoints of the same training without the remedy."""
    training = {"steps": 4, "checkpoint_every": 1}
    plain = spec_with(root, base, training=training)
    folder = training_plan(tmp_path, plain, prepare_inputs(root, plain)).scratch / "checkpoints"
    states = [load_file(base / "model.safetensors")]

    def look(metrics, total):
        if metrics.step > 1:
            states.append(load_file(list_checkpoints(folder)[-1] / "trained.safetensors"))

    last = load_file(train_here(root, plain, tmp_path, look).folder / "model" / "model.safetensors")
    step = train_here(root, spec_with(root, base, {"kind": "ema", "decay": 0.7}, training=training), tmp_path)
    found = load_file(step.folder / "model" / "model.safetensors")
    name = "model.layers.1.mlp.down_proj.weight"
    average = states[0][name].double()
    for weights in [*(s[name] for s in states[1:]), last[name]]:
        average = 0.7 * average + 0.3 * weights.double()
    assert len(states) == 4
    torch.testing.assert_close(found[name].double(), average, atol=1e-6, rtol=0)
    assert step.facts["remedies"]["ema"]["share_of_the_base"] == pytest.approx(0.7**4)


def test_without_decay_it_is_the_last_step(root, base, tmp_path):
    plain, ema = (
        train_here(root, spec_with(root, base, *remedies, training={"steps": 3}), tmp_path / str(n))
        for n, remedies in enumerate([[], [{"kind": "ema", "decay": 0}]])
    )
    assert plain.facts["weights"] == ema.facts["weights"]


def test_ema_named_after_weight_averaging_would_overwrite_it(root, base):
    remedies = [{"kind": "weight_averaging", "alpha": 0.5}, {"kind": "ema"}]
    spec_with(root, base, *remedies[::-1])
    with pytest.raises(ValueError, match="name ema before it"):
        spec_with(root, base, *remedies)
