"""Domain-adversarial training: the reversed gradient, the features it goes through, and a discriminator that leaves no trace."""

import math

import numpy as np
import pytest
import torch

from schemas.errors import UserError
from schemas.spec.remedies import DomainAdversarial
from schemas.spec.run import RunSpec
from tasks.data.plan.plan import load_plan
from tasks.training.attach import attach
from tasks.training.batches.by_length import split_padded
from tasks.training.device import find_device
from tasks.training.inputs import open_dataset
from tasks.training.loop.progress_file import read_metrics
from tasks.training.remedies import domain_adversarial
from tasks.training.remedies.applied import attach_remedies
from tasks.training.remedies.base import Outputs, RemedyContext
from tasks.training.remedies.parts.discriminator import Discriminator, Features, reverse, scale_at
from tasks.training.step import training_plan
from tasks.training.train import _make_trainer, train
from tests.schemas.test_mixture import SPEC, problems
from tests.tiny_encoder import make_encoder
from tests.toy_heads import toy_texts
from tests.training.remedies.small import head_spec_with, inputs_of, train_here
from tests.training.remedies.test_contract import weights

KIND = "domain_adversarial"
LORA = {"kind": "lora", "r": 4, "alpha": 16}


@pytest.fixture(scope="session")
def encoder(tmp_path_factory):
    return make_encoder(tmp_path_factory.mktemp("encoder") / "model", toy_texts())


@pytest.fixture
def families(encoder, base):
    return {"encoder": encoder, "causal": base}


def spec_with(root, folder, settings=None, **keys) -> RunSpec:
    remedies = [] if settings is None else [{"kind": KIND, **settings}]
    return head_spec_with(root, folder, *remedies, **keys)


def at_work(root, spec):
    """(inputs, method, remedies together, the remedy), as a training has them before its first step."""
    inputs = inputs_of(root, spec)
    tuned = attach(spec, inputs, find_device())
    applied = attach_remedies(tuned, RemedyContext(root, spec, inputs), [None])
    return inputs, tuned, applied, applied.remedies[KIND]


def first_rows(spec, inputs, sequences=4):
    dataset, collate = open_dataset(spec, inputs, numbered=True)
    return collate([dataset[number] for number in range(sequences)])


def test_forward_is_the_identity_and_backward_is_minus_the_scale():
    features = torch.tensor([[1.0, -2.0], [3.0, 0.5]], requires_grad=True)
    passed = reverse(features, 0.7)
    assert torch.equal(passed, features)
    (passed**3).sum().backward()
    assert torch.allclose(features.grad, -0.7 * 3 * features.detach() ** 2)


def test_the_scale_grows_from_0_to_the_strength_as_the_paper_says():
    assert scale_at(0, 2.0, 10) == 0
    assert scale_at(1, 2.0, 10) == pytest.approx(2.0, abs=2e-4)
    for p in (0.1, 0.5):
        assert scale_at(p, 3.0, 4.0) == pytest.approx(
            3 * math.tanh(4.0 * p / 2)
        )  # the same curve by another name
    assert (DomainAdversarial().strength, DomainAdversarial().gamma) == (1.0, 10.0)


@pytest.mark.parametrize("method", [{"kind": "full"}, LORA], ids=["full", "lora"])
@pytest.mark.parametrize("family", ["encoder", "causal"])
def test_the_features_are_those_that_the_logits_come_from(root, families, family, method):
    spec = spec_with(root, families[family], method=method)
    inputs = inputs_of(root, spec)
    model = attach(spec, inputs, find_device()).model.eval()
    features = Features(model)
    ids = first_rows(spec, inputs)
    assert (ids["attention_mask"].sum(dim=1) < ids["input_ids"].shape[1]).any(), "some rows are padded"
    given = {name: ids[name] for name in ("input_ids", "attention_mask")}
    logits = model(**given).logits
    taken = features.take(ids["input_ids"], logits)
    assert taken.shape == (len(logits), features.size)
    layer = features.layers[-1]
    torch.testing.assert_close(torch.nn.functional.linear(taken, layer.weight, layer.bias), logits)
    assert taken.requires_grad, "the gradient goes on into the body"
    features.remove()
    assert not any(layer._forward_hooks for layer in features.layers)


@pytest.mark.parametrize("family", ["encoder", "causal"])
def test_loss_and_gradients_are_those_of_the_paper_however_rows_are_cut_into_passes(root, families, family):
    """Against plain autograd of equation 9: means over domain and over replay, times -lambda for the body alone."""
    spec = spec_with(root, families[family], {"strength": 0.6, "gamma": 3.0, "hidden_size": 5})
    inputs, tuned, _, remedy = at_work(root, spec)
    model, batch = tuned.model.eval(), first_rows(spec, inputs)
    remedy.progress, scale = 0.5, 0.6 * math.tanh(3.0 * 0.5 / 2)
    pieces, sequences = load_plan(inputs.plan)
    replay = torch.from_numpy(pieces["source"][: sequences[4]] >= 1).float()
    assert 0 < replay.sum() < len(replay)

    model.zero_grad()
    total, count = 0.0, torch.tensor(float(len(replay)))
    for part in split_padded(batch, 64, overhead=0):
        logits = model(input_ids=part["input_ids"], attention_mask=part["attention_mask"]).logits
        outputs = Outputs(logits, part["labels"], part["places"], count, part["input_ids"])
        loss = remedy.loss(outputs)
        loss.backward()
        total += float(loss)
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    own = [p.grad.clone() for p in remedy.own_parameters()]

    model.zero_grad()
    for parameter in remedy.own_parameters():
        parameter.grad = None
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    features = remedy.features.take(batch["input_ids"], logits)
    d = remedy.discriminator
    says = (torch.relu(features @ d.hidden_weight.T + d.hidden_bias) @ d.output_weight.T + d.output_bias)[
        :, 0
    ]
    probability = says.sigmoid()
    losses = -(replay * probability.log() + (1 - replay) * (1 - probability).log())
    rows, old = len(pieces), int((pieces["source"] >= 1).sum())
    expected = (
        losses[replay == 0].sum() * rows / (rows - old) + losses[replay == 1].sum() * rows / old
    ) / count
    expected.backward()
    assert total == pytest.approx(float(expected), rel=1e-4)
    body = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert found.keys() == body.keys()
    for name, gradient in body.items():
        torch.testing.assert_close(found[name], -scale * gradient, rtol=1e-3, atol=1e-6)
    for mine, parameter in zip(own, remedy.own_parameters(), strict=True):
        torch.testing.assert_close(mine, parameter.grad, rtol=1e-3, atol=1e-6)


def test_each_step_updates_the_discriminator_by_its_own_gradient_at_its_own_scale(root, base):
    """transformers clears the gradients of the model alone, and p is the share of training that is done."""
    from transformers import TrainerCallback

    spec = spec_with(root, base, {"strength": 0.0, "hidden_size": 5})
    inputs, tuned, applied, remedy = at_work(root, spec)
    seen, before = [], []

    class Watch(TrainerCallback):
        def on_step_begin(self, args, state, control, **given):
            before.append({name: tensor.clone() for name, tensor in remedy.state().items()})
            model = {name: tensor.clone() for name, tensor in tuned.model.state_dict().items()}
            seen.append([remedy.progress, model, None])

        def on_pre_optimizer_step(self, args, state, control, **given):
            seen[-1][2] = [p.grad.clone() for p in remedy.own_parameters()]

    trainer, stop = _make_trainer(tuned, root / "watched", spec, inputs, find_device(), None, applied)
    trainer.add_callback(Watch())
    trainer.train()
    stop.give_back()
    assert [progress for progress, *_ in seen] == pytest.approx([step / 8 for step in range(8)])
    assert not torch.equal(before[0]["hidden_weight"], before[7]["hidden_weight"]), "the optimizer has it"
    dataset, collate = open_dataset(spec, inputs, numbered=True)
    for step in (0, 5):
        _, weights_then, gradients = seen[step]
        tuned.model.load_state_dict(weights_then)
        remedy.load_state(before[step])
        for parameter in remedy.own_parameters():
            parameter.grad = None
        batch = collate([dataset[number] for number in range(4 * step, 4 * step + 4)])
        logits = tuned.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        count = torch.tensor(float(len(logits)))
        remedy.loss(Outputs(logits, batch["labels"], batch["places"], count, batch["input_ids"])).backward()
        for mine, parameter in zip(gradients, remedy.own_parameters(), strict=True):
            torch.testing.assert_close(mine, parameter.grad, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("method", [{"kind": "full"}, LORA], ids=["full", "lora"])
@pytest.mark.parametrize("family", ["encoder", "causal"])
def test_at_strength_0_the_run_is_the_one_without_it_bit_for_bit(root, families, tmp_path, family, method):
    watched = train_here(
        root, spec_with(root, families[family], {"strength": 0}, method=method), tmp_path / "0"
    )
    plain = train_here(root, spec_with(root, families[family], method=method), tmp_path / "plain")
    assert weights(watched) == weights(plain)
    norms = [
        [(m.learning_rate, m.grad_norm) for m in read_metrics(step.folder / "metrics.jsonl")]
        for step in (watched, plain)
    ]
    assert norms[0] == norms[1], "the discriminator has no part in clipping"


def test_the_discriminator_is_neither_deployed_nor_counted(root, encoder, tmp_path):
    step = train_here(root, spec_with(root, encoder, {}), tmp_path / "with")
    plain = train_here(root, spec_with(root, encoder), tmp_path / "without")
    files = [sorted(path.name for path in (s.folder / "model").iterdir()) for s in (step, plain)]
    assert files[0] == files[1]
    assert weights(step).keys() == weights(plain).keys()
    counted, wanted = (  # ranks are those of what was learned, which differs
        {name: value for name, value in one.facts["parameters"].items() if name != "ranks"}
        for one in (step, plain)
    )
    assert counted == wanted
    assert {"trainable", "stored_bytes"} <= counted.keys()
    assert weights(step) != weights(plain)


def test_its_weights_come_from_a_stream_of_their_own():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    one, same, other = (Discriminator(4, 3, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(2), expected)
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, same.state_dict()[name])
        assert not torch.equal(tensor, other.state_dict()[name])
        assert tensor.abs().max() <= 1 / math.sqrt(3 if "output" in name else 4)


@pytest.mark.parametrize("family", ["encoder", "causal"])
def test_the_body_moves_so_that_the_discriminator_errs_and_at_strength_0_it_stays(root, families, family):
    spec = spec_with(root, families[family], {"strength": 1.0})
    inputs, tuned, _, remedy = at_work(root, spec)
    model, batch = tuned.model.eval(), first_rows(spec, inputs, 12)
    count = torch.tensor(float(len(batch["labels"])))

    def loss():
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        return remedy.loss(Outputs(logits, batch["labels"], batch["places"], count, batch["input_ids"]))

    discriminate = torch.optim.Adam(remedy.own_parameters(), 0.02)
    for _ in range(40):  # the discriminator learns from a body that stays
        discriminate.zero_grad()
        loss().backward()
        discriminate.step()
    before = float(loss())
    assert remedy._accuracy() > 0.8, "replay rows end with words of their own"
    for progress in (0.0, 1.0):
        remedy.progress = progress
        model.zero_grad()
        loss().backward()
        norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
        torch.optim.SGD(model.parameters(), 0.01 / max(float(norm), 1e-6)).step()
        after = float(loss())
        assert after > 1.01 * before if progress else after == before


@pytest.mark.parametrize("family", ["encoder", "causal"])
def test_the_accuracy_is_the_mean_of_both_roles_over_the_last_documents_of_the_plan(
    root, families, family, monkeypatch
):
    monkeypatch.setattr(domain_adversarial, "MEASURED", 20)
    spec = spec_with(root, families[family], {})
    inputs, tuned, _, remedy = at_work(root, spec)
    pieces, _ = load_plan(inputs.plan)
    model, layer = tuned.model.eval(), remedy.features.layers[-1]
    given = []
    layer.register_forward_pre_hook(lambda _, arguments: given.append(arguments[0]))
    said = []
    with torch.no_grad():
        for source, part, start, length, _ in pieces.tolist():
            ids = inputs.sources[source][part].tokens[start : start + length].astype(np.int64)
            model(input_ids=torch.from_numpy(ids)[None])
            last = int(np.flatnonzero(ids != inputs.special.pad)[-1])
            features = given.pop() if given[-1].dim() == 2 else given.pop()[:, last]
            said.append(remedy.discriminator(features).item())
        values = np.unique(np.round(said, 5))
        middle = values[len(values) // 2 - 1 :][:2].mean()
        remedy.discriminator.output_bias -= float(middle)  # so that it says both
    replay = pieces["source"] >= 1
    right = (np.array(said) > middle) == replay
    expected = np.mean([right[replay == role][-20:].mean() for role in (False, True)])
    assert 0.2 < expected < 1
    remedy.finish()
    assert remedy.facts() == {"discriminator_accuracy": pytest.approx(expected)}


SETTINGS = {"strength": {"strength": 2.0}, "gamma": {"gamma": 3.0}, "hidden_size": {"hidden_size": 5}}


@pytest.mark.parametrize("key", SETTINGS)
def test_every_setting_changes_the_weights_and_the_name_of_the_step(root, encoder, tmp_path, key):
    assert {"kind", *SETTINGS} == DomainAdversarial.model_fields.keys()
    specs = [spec_with(root, encoder, own, training={"steps": 4}) for own in ({}, SETTINGS[key])]
    inputs = inputs_of(root, specs[0])
    assert training_plan(tmp_path, specs[0], inputs).key != training_plan(tmp_path, specs[1], inputs).key
    first, second = (weights(train_here(root, spec, tmp_path)) for spec in specs)
    assert first != second


def test_rows_say_where_in_the_plan_their_document_begins(root, encoder):
    spec = spec_with(root, encoder, {})
    inputs, _, _, remedy = at_work(root, spec)
    pieces, sequences = load_plan(inputs.plan)
    dataset, collate = open_dataset(spec, inputs, numbered=True)
    batch = collate([dataset[3], dataset[4]])
    ends = np.cumsum(pieces["length"])
    chosen = slice(sequences[3], sequences[5])
    assert batch["places"].tolist() == (ends - pieces["length"])[chosen].tolist()
    assert remedy._is_replay(batch["places"]).tolist() == (pieces["source"][chosen] >= 1).tolist()
    assert "places" not in open_dataset(spec, inputs)[1]([open_dataset(spec, inputs)[0][3]])


def refused(remedy=None, **changes) -> str:
    heads = {
        "objective": {"kind": "text_classification"},
        "domain": [{"path": "d.jsonl", "contract": "c"}],
        "replay": [{"path": "r.jsonl", "contract": "c"}],
        "mixture": {"replay_ratio": 0.2},
        "evaluation": {"domain_holdout": 0.1},
        "remedies": [{"kind": KIND, **(remedy or {})}],
    }
    return problems(**{**heads, **changes})


def test_what_it_cannot_work_with_is_refused_with_what_to_do():
    assert refused() == ""
    assert "remedies.0: there is no replay to tell from the domain; raise mixture.replay_ratio" in refused(
        mixture={"replay_ratio": 0}
    )
    said = refused(method={"kind": "head_only"})
    assert (
        "cannot be computed for method 'head_only', which trains nothing below the task's output layer; use"
        in said
    )
    said = problems(mixture={"replay_ratio": 0.2}, remedies=[{"kind": KIND}])
    assert "domain_adversarial works with text_classification, not with language_modeling; use replay" in said
    tasks = {
        "kind": "multi_task",
        "tasks": [{"name": name, "kind": "text_classification"} for name in ("a", "b")],
    }
    sources = [{"path": "d.jsonl", "contract": "c", "task": name} for name in ("a", "b")]
    assert "not with multi_task" in refused(objective=tasks, domain=sources, replay=sources)
    assert "greater than 0" in refused({"gamma": 0})
    assert SPEC["replay"], "the specification that was changed has replay"


def test_a_method_that_trains_the_output_layer_alone_is_refused_before_training(root, encoder, tmp_path):
    spec = spec_with(
        root, encoder, {}, method={"kind": "selective", "choose": "patterns", "patterns": ["classifier.*"]}
    )
    with pytest.raises(UserError, match="this method trains nothing there") as error:
        train_here(root, spec, tmp_path)
    assert error.value.where == "method"
    assert "train a part of the body" in error.value.fix


def test_a_plan_without_replay_rows_is_refused(root, encoder, tmp_path):
    spec = spec_with(root, encoder, {}, mixture={"replay_ratio": 0.001}, training={"steps": 1})
    with pytest.raises(UserError, match="and 0 replay rows: there is nothing to tell apart") as error:
        train(tmp_path, spec, inputs_of(root, spec))
    assert "raise mixture.replay_ratio" in error.value.fix


def test_a_causal_model_behind_virtual_tokens_is_refused(root, base, tmp_path):
    """Such a model reads the label at another position than the text's last."""
    spec = spec_with(root, base, {}, method={"kind": "prompt_tuning", "virtual_tokens": 4})
    with pytest.raises(UserError, match="cannot tell from which position") as error:
        train(tmp_path, spec, inputs_of(root, spec))
    assert "choose another method" in error.value.fix
