"""AdaLoRA's budget falls as the paper says, and everything it remembers survives a kill."""

import copy

import pytest
import torch
from pydantic import ValidationError

from schemas.errors import UserError
from schemas.spec.methods.peft import AdaLora
from tasks.training.attach import attach
from tasks.training.device import find_device
from tasks.training.methods import adalora
from tasks.training.models.load import load_model
from tasks.training.train import _make_trainer, train
from tests.training.methods.tiny_models import IDS, context
from tests.training.prepared import prepare_inputs, spec_of

METHOD = {"kind": "adalora", "init_r": 4, "target_r": 2, "delta_t": 1}
MATRICES = 14


def rank(tuned) -> int:
    """Singular values that are not cut."""
    return sum(int((p != 0).sum()) for name, p in tuned.model.named_parameters() if ".lora_E." in name)


def step_once(tuned, optimizer, step):
    out = tuned.model(input_ids=IDS, labels=IDS)
    (out.loss + tuned.penalty()).backward()
    optimizer.step()
    tuned.allocate(step)
    optimizer.zero_grad()


def fresh(base, steps=10):
    torch.manual_seed(4)
    tuned = adalora.attach(load_model(base), AdaLora(**METHOD), context(steps=steps))
    return tuned, torch.optim.AdamW([p for p in tuned.model.parameters() if p.requires_grad], lr=0.01)


def test_the_budget_falls_with_the_cube_of_the_remaining_time(base):
    tuned, optimizer = fresh(base)
    ranks = []
    for step in range(1, 11):
        step_once(tuned, optimizer, step)
        ranks.append(rank(tuned))
    first, last = 4 * MATRICES, 2 * MATRICES
    left = [1 - (step - 1) / (10 - 4 - 1) for step in range(2, 7)]  # t_i = 1, t_f = 4
    assert ranks == [first, *(int((first - last) * x**3 + last) for x in left), *[last] * 4]
    facts = tuned.facts()
    assert facts["total_rank"] == last == sum(facts["ranks"].values())
    assert len(facts["ranks"]) == MATRICES


def test_a_real_run_allocates_in_every_step(root, base, tmp_path):
    spec = spec_of(root, base, method=METHOD, training={"steps": 10})
    step = train(tmp_path, spec, prepare_inputs(root, spec))
    assert step.facts["method"]["total_rank"] == 2 * MATRICES


def test_what_it_remembers_is_its_state(base):
    """A fresh process that takes up the state in the middle goes on exactly as the first one would."""
    tuned, optimizer = fresh(base)
    for step in range(1, 5):
        step_once(tuned, optimizer, step)
    state = {name: tensor.clone() for name, tensor in tuned.state().items()}
    moments = copy.deepcopy(optimizer.state_dict())
    other, again = fresh(base)
    other.load_state(state)
    taken = other.state()
    assert taken.keys() == state.keys()
    assert sum(name.startswith("exp_avg_unc:") for name in state) == 3 * MATRICES
    assert all(torch.equal(taken[name], state[name]) for name in state)
    again.load_state_dict(moments)
    for step in range(5, 11):
        step_once(tuned, optimizer, step)
        step_once(other, again, step)
    one, two = tuned.state(), other.state()
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_the_penalty_is_the_mean_distance_from_orthogonality(base):
    tuned, _ = fresh(base)
    distances = []
    for name, p in tuned.model.named_parameters():
        if "lora_A" in name:
            distances.append((p @ p.T - torch.eye(4)).square().sum().sqrt())
        elif "lora_B" in name:
            distances.append((p.T @ p - torch.eye(4)).square().sum().sqrt())
    assert len(distances) == 2 * MATRICES
    assert float(tuned.penalty()) == pytest.approx(0.5 * float(sum(distances)) / len(distances), rel=1e-5)
    model = tuned.model.eval()
    labelled, plain = model(input_ids=IDS, labels=IDS).loss, load_model(base)(input_ids=IDS, labels=IDS).loss
    assert torch.equal(labelled, plain), "PEFT adds none of its own"


def test_the_penalty_does_not_grow_with_gradient_accumulation(root, base, tmp_path):
    gradients = []
    for micro in (32, 128):
        training = {"steps": 4, "micro_batch_tokens": micro, "max_grad_norm": 1e9}
        spec = spec_of(root, base, method=METHOD | {"orthogonality": 5.0}, training=training)
        inputs = prepare_inputs(root, spec)
        tuned = attach(spec, inputs, find_device())
        trainer, _ = _make_trainer(tuned, tmp_path / str(micro), spec, inputs, find_device(), None)
        trainer.train()
        gradients.append(trainer.state.log_history[0]["grad_norm"])
    assert gradients[0] == pytest.approx(gradients[1], rel=1e-3)


def test_too_few_steps_to_allocate_are_refused(base):
    with pytest.raises(UserError, match="cannot allocate ranks in 1 steps") as error:
        adalora.attach(load_model(base), AdaLora(), context(steps=1))
    assert error.value.where == "method.final_ratio"
    assert "final_ratio" in error.value.fix


def test_a_budget_that_cannot_fall_is_refused():
    with pytest.raises(ValidationError, match="target_r: "):
        AdaLora(init_r=4, target_r=4)
    with pytest.raises(ValidationError, match="final_ratio: "):
        AdaLora(warmup_ratio=0.5, final_ratio=0.5)
