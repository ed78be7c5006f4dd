"""Interpolation is exact at both ends, and alpha is chosen on documents that nothing was trained on."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from schemas.errors import UserError
from schemas.spec.remedies import WeightAveraging
from tasks.data.plan.plan import load_development, load_plan
from tasks.training.models.load import load_base, load_model
from tasks.training.remedies.parts.measure import mean_loss
from tests.corpora import source, write_rows
from tests.training.prepared import prepare_inputs, train_here
from tests.training.remedies.small import spec_with
from tests.training.remedies.test_contract import weights

METHODS = {
    "full": {"kind": "full"},
    "selective": {"kind": "selective", "layers": 1},
    "lora": {"kind": "lora", "r": 4, "alpha": 16},
    "sparse": {"kind": "sparse", "trainable_ratio": 0.1},
    "fisher": {"kind": "fisher", "trainable_ratio": 0.1, "samples": 10},
    "lisa": {"kind": "lisa", "layers": 1, "interval": 2},
}
IDS = torch.arange(3, 40)[None]


def logits(model):
    with torch.inference_mode():
        return model.eval()(input_ids=IDS, use_cache=False).logits


def trained(root, base, state, method, *remedies):
    return train_here(
        root, spec_with(root, base, *remedies, method=METHODS[method], training={"steps": 4}), state
    )


@pytest.mark.parametrize("method", METHODS)
def test_at_0_it_is_the_base_and_at_1_what_was_trained_exactly(root, base, tmp_path, method):
    plain, back, stay = (
        trained(root, base, tmp_path / str(n), method, *remedies)
        for n, remedies in enumerate(
            [[], [{"kind": "weight_averaging", "alpha": 0}], [{"kind": "weight_averaging", "alpha": 1}]]
        )
    )
    assert weights(stay) == weights(plain)
    assert torch.equal(logits(load_model(back.folder / "model")), logits(load_base(base)))
    assert not torch.equal(logits(load_model(plain.folder / "model")), logits(load_base(base)))


def test_between_the_ends_every_weight_is_on_the_line(root, base, tmp_path):
    plain = trained(root, base, tmp_path / "plain", "full")
    between = trained(root, base, tmp_path / "between", "full", {"kind": "weight_averaging", "alpha": 0.3})
    start, end, found = (
        load_file(f / "model.safetensors") for f in (base, plain.folder / "model", between.folder / "model")
    )
    for name, tensor in found.items():
        expected = start[name].double().numpy() * 0.7 + end[name].double().numpy() * 0.3
        np.testing.assert_allclose(tensor.double().numpy(), expected, atol=1e-6)


def test_half_of_a_low_rank_update_is_half_its_difference(root, base, tmp_path):
    plain, half = (
        load_model(trained(root, base, tmp_path / str(n), "lora", *remedies).folder / "model").state_dict()
        for n, remedies in enumerate([[], [{"kind": "weight_averaging", "alpha": 0.5}]])
    )
    start = load_base(base).state_dict()
    name = "model.layers.0.self_attn.q_proj.weight"
    torch.testing.assert_close(half[name] - start[name], (plain[name] - start[name]) / 2)


def test_alpha_is_where_the_weighted_development_loss_is_least(root, base, tmp_path):
    def facts(general_weight):
        remedy = {"kind": "weight_averaging", "general_weight": general_weight, "development_tokens": 600}
        spec = spec_with(root, base, remedy, training={"steps": 8, "learning_rate": 0.03})
        return train_here(root, spec, tmp_path / str(general_weight)).facts["remedies"]["weight_averaging"]

    for weight in (0.0, 0.5, 1.0):
        found = facts(weight)
        mixed = [(1 - weight) * at["domain"] + weight * at["general"] for at in found["curve"]]
        assert [at["alpha"] for at in found["curve"]] == pytest.approx(np.linspace(0, 1, 11).tolist())
        assert found["alpha"] == found["curve"][int(np.argmin(mixed))]["alpha"]


def test_the_curve_is_the_loss_of_the_models_it_names(root, base, tmp_path):
    model = load_base(base)
    texts = [np.arange(3, 30), np.arange(9, 20)]
    nats = [
        -model(input_ids=torch.tensor(ids)[None]).logits[0, :-1].log_softmax(-1)[range(len(ids) - 1), ids[1:]]
        for ids in texts
    ]
    assert mean_loss(model, texts) == pytest.approx(float(torch.cat(nats).mean()), rel=1e-5)


def test_what_alpha_is_chosen_by_is_kept_from_training_and_counted(root, base, tmp_path):
    remedy = {"kind": "weight_averaging", "development_tokens": 600}
    plan = prepare_inputs(root, spec_with(root, base, remedy, training={"epochs": 2})).plan
    pieces, _ = load_plan(plan)
    kept = load_development(plan)
    assert set(kept["source"].tolist()) == {0, 1}
    tokens = int((kept["length"].astype(int) - 1).sum())
    assert 300 < tokens <= 600
    assert plan.facts["tokens"]["development"] == tokens
    spans = {
        (source, part, place)
        for source, part, start, length, _ in pieces.tolist()
        for place in range(start, start + length)
    }
    assert not any(
        (source, part, place) in spans
        for source, part, start, length, _ in kept.tolist()
        for place in range(start, start + length)
    )
    plain = prepare_inputs(root, spec_with(root, base, training={"epochs": 2})).plan
    assert sum(plan.facts["tokens"][key] for key in ("domain", "replay", "development")) == sum(
        plain.facts["tokens"][key] for key in ("domain", "replay")
    )


def test_settings_that_a_given_alpha_makes_dead_are_refused():
    with pytest.raises(ValueError, match="points would do nothing"):
        WeightAveraging(alpha=0.5, points=3)


def test_a_text_too_small_to_keep_anything_of_is_refused(root, base, tmp_path):
    write_rows(tmp_path / "few.jsonl", ["\u6625\u5929\u6765\u4e86\uff0c\u82b1\u5f00\u4e86\u3002"])
    remedy = {"kind": "weight_averaging", "development_tokens": 600}
    spec = spec_with(root, base, remedy, replay=[source(tmp_path / "few.jsonl")])
    with pytest.raises(UserError, match="the replay text is too small"):
        prepare_inputs(root, spec)


def test_settings_with_an_alpha_are_read_back_as_they_were_stored():
    settings = WeightAveraging(alpha=0.3)
    assert WeightAveraging.model_validate(settings.model_dump(mode="json")) == settings
