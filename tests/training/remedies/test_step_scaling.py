"""Step scaling: each update is the plain one times the written factor of that step's loss, and nothing else changes."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from schemas.spec.remedies import StepScaling
from tasks.data.plan.plan import load_general
from tasks.training.loop.progress_file import read_metrics
from tasks.training.loop.trainer import ResumableTrainer
from tasks.training.models.load import load_base
from tasks.training.remedies.applied import Applied
from tasks.training.remedies.base import RemedyContext
from tasks.training.remedies.step_scaling import ScaledSteps
from tasks.training.train import train
from tests.tiny_encoder import make_encoder
from tests.toy_heads import toy_texts
from tests.training.heads import head_spec, prepare_head
from tests.training.prepared import prepare_inputs, train_here
from tests.training.remedies.small import spec_with
from tests.training.remedies.test_weights import nats

TARGET = {"kind": "step_scaling", "power": 2.0, "target": 1.5}
DECAYED = {"weight_decay": 0.1, "steps": 1}


def told(step):
    return step.facts["remedies"]["step_scaling"]


def weights_of(step):
    (file,) = (step.folder / "model").glob("*.safetensors")
    return load_file(file)


def losses_of(step):
    return [metrics.loss for metrics in read_metrics(step.folder / "metrics.jsonl")]


def test_rates_are_scaled_for_one_step_alike_and_put_back_to_the_bit():
    groups = [{"lr": 0.1}, {"lr": 1.6}]
    remedy = ScaledSteps(target=1.0, power=2.0)
    for share in (1.5, 2.5):
        remedy.see_loss(torch.tensor(share))
    remedy.before(groups)
    assert [group["lr"] for group in groups] == [0.1 / 16, 1.6 / 16]
    remedy.after(groups)
    assert [group["lr"] for group in groups] == [0.1, 1.6]
    remedy.see_loss(torch.tensor(0.9))
    remedy.before(groups)
    assert [group["lr"] for group in groups] == [0.1, 1.6], "no step is made larger"
    facts = {"target_nats": 1.0, "mean_factor": (1 + 1 / 16) / 2, "share_of_steps_scaled": 0.5}
    assert remedy.facts() == facts


@pytest.mark.parametrize("method", [{"kind": "full"}, {"kind": "lora", "r": 4, "alpha": 16}])
def test_an_update_is_the_plain_one_times_the_factor_weight_decay_included(root, base, tmp_path, method):
    """With one step of AdamW, both are proportional to the learning rate."""
    plain, scaled = (
        train_here(root, spec_with(root, base, *remedies, method=method, training=DECAYED), tmp_path / str(n))
        for n, remedies in enumerate([[], [TARGET]])
    )
    still = spec_with(root, base, method=method, training={**DECAYED, "learning_rate": 1e-30})
    start = weights_of(train_here(root, still, tmp_path / "start"))
    factor = (1.5 / losses_of(plain)[0]) ** 2
    assert factor < 0.5
    assert told(scaled)["mean_factor"] == pytest.approx(factor, rel=1e-5)
    before, after = weights_of(plain), weights_of(scaled)
    for name, tensor in after.items():
        torch.testing.assert_close(
            tensor - start[name], factor * (before[name] - start[name]), atol=2e-7, rtol=1e-4
        )


def test_decay_towards_the_base_is_scaled_with_the_step(root, base, tmp_path):
    """The update is undone by learning rate x factor x strength of itself."""
    method = {"kind": "full", "anchor": "decay_to_base", "anchor_strength": 40}
    plain, scaled = (
        train_here(
            root,
            spec_with(root, base, *remedies, method=method, training={"steps": 1, "weight_decay": 0}),
            tmp_path / str(n),
        )
        for n, remedies in enumerate([[], [TARGET]])
    )
    start, before, after = load_file(base / "model.safetensors"), weights_of(plain), weights_of(scaled)
    factor = told(scaled)["mean_factor"]
    share = factor * (1 - 0.4 * factor) / (1 - 0.4)
    for name, tensor in after.items():
        torch.testing.assert_close(
            tensor - start[name], share * (before[name] - start[name]), atol=2e-7, rtol=1e-4
        )


def test_power_0_is_the_training_without_it_to_the_bit(root, base, tmp_path):
    plain, same = (
        train_here(root, spec_with(root, base, *remedies), tmp_path / str(n))
        for n, remedies in enumerate([[], [{**TARGET, "power": 0}]])
    )
    assert plain.facts["weights"] == same.facts["weights"]
    assert told(same)["share_of_steps_scaled"] == 0


@pytest.mark.parametrize("method", [{"kind": "full"}, {"kind": "prompt_tuning", "virtual_tokens": 4}])
def test_the_loss_of_the_whole_step_counts_however_it_is_cut(root, base, tmp_path, method):
    """Packed, and with documents apart."""
    found = []
    for positions in (32, 128):
        training = {"steps": 1, "micro_batch_tokens": positions}
        spec = spec_with(root, base, TARGET, method=method, training=training)
        step = train_here(root, spec, tmp_path / str(positions))
        assert told(step)["mean_factor"] == pytest.approx((1.5 / losses_of(step)[0]) ** 2, rel=1e-4)
        found.append(told(step)["mean_factor"])
    assert found[0] == pytest.approx(found[1], rel=1e-4)


def test_weights_of_another_remedy_do_not_change_what_is_surprising(root, base, tmp_path):
    weighed = {"kind": "loss_weighting", "domain": 0.1, "replay": 0.3}
    alone, beside = (
        train_here(root, spec_with(root, base, *remedies, training={"steps": 1}), tmp_path / str(n))
        for n, remedies in enumerate([[TARGET], [weighed, TARGET]])
    )
    assert told(alone)["mean_factor"] == pytest.approx(told(beside)["mean_factor"], rel=1e-5)
    assert losses_of(beside)[0] < losses_of(alone)[0] / 2


@pytest.mark.parametrize("tokens", [60, 600])
def test_without_a_target_it_is_the_bases_loss_on_the_general_sample(root, base, tmp_path, tokens):
    spec = spec_with(root, base, {"kind": "step_scaling", "general_tokens": tokens}, training={"steps": 1})
    inputs = prepare_inputs(root, spec)
    documents = RemedyContext(root, spec, inputs).ids_of(load_general(inputs.plan))
    assert sum(len(ids) - 1 for ids in documents) >= tokens
    assert sum(len(ids) - 1 for ids in documents[:-1]) < tokens
    model = load_base(base)
    expected = np.concatenate([nats(model, ids) for ids in documents]).mean()
    assert told(train_here(root, spec, tmp_path))["target_nats"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("change", [{"power": 1.0}, {"target": 1.2}, {"target": None}])
def test_every_setting_changes_what_is_trained(root, base, tmp_path, change):
    one, other = (
        train_here(root, spec_with(root, base, remedy, training={"steps": 2}), tmp_path / str(n))
        for n, remedy in enumerate([TARGET, {**TARGET, **change}])
    )
    assert one.facts["weights"] != other.facts["weights"]


@pytest.mark.parametrize("kind", ["text_classification", "token_classification"])
def test_with_a_head_it_reads_the_loss_of_the_labels(tmp_path, kind):
    base = make_encoder(tmp_path / "encoder", toy_texts())
    found = []
    for remedies in ([], [{"kind": "step_scaling", "target": 0.5}]):
        spec = head_spec(tmp_path / "data", kind, base, remedies=remedies)
        found.append(train(tmp_path / str(len(found)), spec, prepare_head(tmp_path / "root", spec)[2]))
    plain, scaled = found
    factors = [min(1.0, 0.5 / loss) for loss in losses_of(scaled)]
    assert losses_of(scaled)[0] == losses_of(plain)[0] > 0.5
    assert told(scaled)["mean_factor"] == pytest.approx(np.mean(factors), rel=1e-4)
    assert scaled.facts["weights"] != plain.facts["weights"]


def test_a_head_without_a_target_is_refused(tmp_path, base):
    with pytest.raises(ValueError, match="of another kind than that of a batch; set target"):
        head_spec(tmp_path, "text_classification", base, remedies=[{"kind": "step_scaling"}])


def test_settings_that_a_given_target_makes_dead_are_refused_and_stored_ones_read_back():
    with pytest.raises(ValueError, match="target: is given, so general_tokens would do nothing"):
        StepScaling(target=1.0, general_tokens=7)
    settings = StepScaling(target=1.0)
    assert StepScaling.model_validate(settings.model_dump()) == settings
    assert settings.general_sample == 0


def test_of_a_model_that_returns_means_a_micro_batch_is_its_share_of_the_step():
    trainer = object.__new__(ResumableTrainer)
    remedy = ScaledSteps(target=1.0, power=1.0)
    trainer.remedies, trainer.compute_loss_func = Applied({"it": remedy}), None
    trainer.current_gradient_accumulation_steps = 4
    model, loss = torch.nn.Identity(), torch.tensor(6.0)
    for accepts, share in ((False, 1.5), (True, 6.0)):
        trainer.model_accepts_loss_kwargs, remedy.loss_of_step = accepts, 0.0
        trainer._show_loss(model.train(), loss, 10)
        trainer._show_loss(model.eval(), loss, 10)
        assert float(remedy.loss_of_step) == share
