"""EWC: the Fisher information is that of single documents with the model's own labels, and it holds the weights."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from schemas.errors import UserError
from schemas.spec.remedies import Ewc
from tasks.data.plan.plan import load_general
from tasks.training.models.load import load_base
from tasks.training.remedies.base import RemedyContext
from tasks.training.remedies.ewc import BESIDE, FILE, fisher_information, prepare, sample_labels
from tasks.training.step import training_plan
from tests.training.prepared import prepare_inputs, train_here
from tests.training.remedies.small import SMALL, spec_with
from tests.training.remedies.test_contract import FOR_METHOD, weights

EWC = {"kind": "ewc", **SMALL["ewc"]}


def context(root, base, **keys):
    spec = spec_with(root, base, EWC, **keys)
    return RemedyContext(root, spec, prepare_inputs(root, spec))


def documents(root, base):
    whole = context(root, base)
    return whole.ids_of(load_general(whole.inputs.plan))[:4]


def test_the_fisher_information_is_that_of_documents_one_by_one(root, base):
    """The reference asks autograd for each token's gradient, adds those of a document, and squares."""
    texts = documents(root, base)
    found = fisher_information(load_base(base), texts, seed=3)
    model = load_base(base).eval()
    parameters = dict(model.named_parameters())
    sums = {name: np.zeros(p.shape) for name, p in parameters.items()}
    for number, ids in enumerate(texts):
        logp = model(input_ids=torch.tensor(ids.astype(np.int64))[None]).logits[0, :-1].log_softmax(-1)
        labels = sample_labels(logp.detach(), 3, number)
        score = {name: np.zeros(p.shape) for name, p in parameters.items()}
        for place, label in enumerate(labels.tolist()):
            gradients = torch.autograd.grad(logp[place, label], list(parameters.values()), retain_graph=True)
            for name, gradient in zip(parameters, gradients, strict=True):
                score[name] += gradient.double().numpy()
        for name in sums:
            sums[name] += score[name] ** 2
    tokens = sum(len(ids) - 1 for ids in texts)
    for name, tensor in found.items():
        np.testing.assert_allclose(tensor.numpy(), sums[name] / tokens, rtol=2e-3, atol=1e-9)


def test_labels_are_drawn_from_the_model_and_not_read_from_the_text():
    logits = torch.tensor([[0.0, 2.0, -1.0]]).repeat(20_000, 1)
    shares = torch.bincount(sample_labels(logits, 7, 0), minlength=3) / 20_000
    assert torch.allclose(shares, logits[0].softmax(0), atol=0.015)
    assert torch.equal(sample_labels(logits, 7, 0), sample_labels(logits, 7, 0))
    assert not torch.equal(sample_labels(logits, 7, 0), sample_labels(logits, 7, 1))


def test_the_fisher_information_does_not_depend_on_batches_mixture_or_strength(root, base):
    other = {"training": {"steps": 4, "batch_tokens": 256, "micro_batch_tokens": 32}}
    steps = [
        prepare(Ewc(**EWC | {"strength": strength}), context(root, base, **keys))
        for strength, keys in ((1.0, {}), (2.0, other), (3.0, {"mixture": {"replay_ratio": 0.0}}))
    ]
    assert len({step.key for step in steps}) == 1
    assert steps[0].facts["tokens"] >= 600
    assert steps[0].key != prepare(Ewc(general_tokens=300), context(root, base)).key


@pytest.mark.parametrize("method", FOR_METHOD)
def test_without_strength_it_is_the_baseline_bit_for_bit(root, base, tmp_path, method):
    remedy = EWC | {"strength": 0}
    steps = [
        train_here(root, spec_with(root, base, *remedies, method=FOR_METHOD[method]), tmp_path / str(n))
        for n, remedies in enumerate([[], [remedy]])
    ]
    assert weights(steps[0]) == weights(steps[1])


@pytest.mark.parametrize("method", FOR_METHOD)
def test_the_stronger_it_is_the_nearer_the_weights_stay_in_its_own_measure(root, base, tmp_path, method):
    distances = []
    for strength in (1.0, 1e3, 1e6):
        spec = spec_with(root, base, EWC | {"strength": strength}, method=FOR_METHOD[method])
        step = train_here(root, spec, tmp_path / str(strength))
        distances.append(step.facts["remedies"]["ewc"]["penalty_nats"] / strength)
    assert distances[0] > distances[1] > distances[2] > 0


def test_online_the_fisher_information_is_stored_and_the_next_increment_adds_to_it(root, base, tmp_path):
    online = EWC | {"gamma": 0.5}
    first = train_here(root, spec_with(root, base, online), tmp_path)
    champion = first.folder / "model"
    stored = load_file(champion / BESIDE)
    assert first.facts["remedies"]["ewc"]["earlier_fisher_added"] is False
    spec = spec_with(root, champion, online)
    second = train_here(root, spec, tmp_path)
    assert second.facts["remedies"]["ewc"]["earlier_fisher_added"] is True
    fresh = load_file(
        prepare(Ewc(**online), RemedyContext(tmp_path, spec, prepare_inputs(root, spec))).folder / FILE
    )
    summed = load_file(second.folder / "model" / BESIDE)
    for name, tensor in summed.items():
        assert torch.equal(tensor, 0.5 * stored[name] + fresh[name])
    assert not (train_here(root, spec_with(root, champion, EWC), tmp_path).folder / "model" / BESIDE).exists()


def test_another_stored_fisher_information_is_another_training_and_one_that_does_not_fit_is_refused(
    root, base, tmp_path
):
    online = EWC | {"gamma": 0.5}
    champion = train_here(root, spec_with(root, base, online), tmp_path).folder / "model"
    keys = []
    for tensors in (None, {"odd": torch.ones(2)}):
        if tensors:
            save_file(tensors, champion / BESIDE)
        spec = spec_with(root, champion, online)
        keys.append(training_plan(tmp_path, spec, prepare_inputs(root, spec)).key)
    assert keys[0] != keys[1]
    with pytest.raises(UserError, match="does not fit its weights"):
        train_here(root, spec, tmp_path)
