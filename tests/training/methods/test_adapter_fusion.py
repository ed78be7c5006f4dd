"""AdapterFusion: attention over frozen adapters, self-contained on disk, at least as good as the better adapter."""

import random
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from schemas.errors import UserError
from schemas.spec.methods.adapters import AdapterFusion
from tasks.data.tokens.tokenizer import encode_text
from tasks.evaluation.scoring.generate import generate
from tasks.evaluation.scoring.loss import score_documents
from tasks.training.attach import attach
from tasks.training.batches.isolation import require_isolation
from tasks.training.device import find_device
from tasks.training.loop.checkpoints import list_checkpoints
from tasks.training.models.load import load_model, load_tuned
from tasks.training.step import training_plan
from tests.corpora import write_rows
from tests.tiny import DOMAIN, GENERAL
from tests.tiny_base import make_base, prose
from tests.training.prepared import prepare_inputs, spec_of, train_here

IDS = torch.arange(3, 40)[None]
PFEIFFER = {"kind": "adapter_pfeiffer", "size": 8}


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=IDS).logits


def texts(words: list[str], count: int, seed: int) -> list[str]:
    """A trade's talk, made up."""
    choose = random.Random(seed)
    return [" ".join(choose.choice(words) for _ in range(choose.randint(12, 40))) for _ in range(count)]


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    """Three folders of rows: one trade, another trade, and both in turn."""
    folder = tmp_path_factory.mktemp("corpora")
    orchard, harbour = texts(DOMAIN, 120, 1), texts(GENERAL, 120, 2)
    mixed = [line for pair in zip(orchard, harbour, strict=True) for line in pair]
    for name, rows in (("orchard", orchard), ("harbour", harbour), ("mixed", mixed)):
        write_rows(folder / name / "domain.jsonl", rows)
        write_rows(folder / name / "general.jsonl", [line[:300] for line in prose("zh_*")[:20]])
    return folder


@pytest.fixture(scope="module")
def base():
    """The bundled model: random weights have a head so flat that nothing before it matters."""
    return Path(__file__).parents[3] / "assets" / "base"


@pytest.fixture(scope="module")
def stage_one(corpora, root, base, tmp_path_factory):
    """The model folders of an adapter of each trade."""
    folders = []
    for name in ("orchard", "harbour"):
        spec = spec_of(corpora / name, base, method=PFEIFFER, training={"steps": 30, "learning_rate": 0.01})
        folders.append(str(train_here(root, spec, tmp_path_factory.mktemp(name)).folder / "model"))
    return folders


def fusion_spec(corpora, base, stage_one, steps=30, **settings):
    method = {"kind": "adapter_fusion", "adapters": stage_one, **settings}
    return spec_of(corpora / "mixed", base, method=method, training={"steps": steps, "learning_rate": 0.01})


@pytest.fixture(scope="module")
def fused(corpora, root, base, stage_one, tmp_path_factory):
    return train_here(root, fusion_spec(corpora, base, stage_one), tmp_path_factory.mktemp("fused"))


def held_out_loss(base, model) -> float:
    """Nats per label token of new texts of both trades."""
    unseen = [*texts(DOMAIN, 30, 3), *texts(GENERAL, 30, 4)]
    documents = [np.array(ids) for ids in encode_text(base, unseen)]
    nats = score_documents(load_model(model), documents, 128, 2048, "cpu")
    return float(nats.sum() / sum(len(ids) - 1 for ids in documents))


def test_the_fusion_is_at_least_as_good_on_a_mixture_as_the_better_adapter(base, stage_one, fused):
    folders = [base, *map(Path, stage_one), fused.folder / "model"]
    plain, orchard, harbour, both = (held_out_loss(base, folder) for folder in folders)
    assert min(orchard, harbour) < plain - 0.1
    assert both < min(orchard, harbour)


def test_the_attention_is_the_paper_s(corpora, root, base, stage_one):
    spec = fusion_spec(corpora, base, stage_one)
    tuned = attach(spec, prepare_inputs(root, spec), find_device())
    fusion = tuned.modules()["block_0_feed_forward"]
    torch.manual_seed(1)
    with torch.no_grad():
        for layer in (fusion.query, fusion.key, fusion.value):
            layer.weight.add_(torch.randn_like(layer.weight) * 0.2)
    h = torch.randn(5, 128)
    with torch.no_grad():
        result = fusion(h, None)
        for row in range(5):
            updates = [
                a.up.weight @ torch.relu(a.down.weight @ h[row] + a.down.bias) + a.up.bias
                for a in fusion.adapters
            ]
            q = fusion.query.weight @ h[row] + fusion.query.bias
            scores = torch.stack([q @ (fusion.key.weight @ u + fusion.key.bias) for u in updates])
            shares = scores.exp() / scores.exp().sum()
            expected = h[row] + sum(
                s * (fusion.value.weight @ u) for s, u in zip(shares, updates, strict=True)
            )
            assert torch.allclose(result[row], expected, atol=1e-5)


def test_only_the_attentions_train_3_d_d_plus_2_d_each(corpora, root, base, stage_one):
    spec = fusion_spec(corpora, base, stage_one)
    tuned = attach(spec, prepare_inputs(root, spec), find_device())
    trained = {name: p for name, p in tuned.model.named_parameters() if p.requires_grad}
    assert not [name for name in trained if ".adapters." in name]
    assert sum(p.numel() for p in trained.values()) == 6 * (3 * 128 * 128 + 2 * 128)
    assert tuned.state().keys() == trained.keys()


def test_the_adapters_do_not_move(stage_one, fused):
    with safe_open(fused.folder / "model" / "inserted.safetensors", "pt") as after:
        for index, folder in enumerate(stage_one):
            with safe_open(f"{folder}/inserted.safetensors", "pt") as before:
                for name in before.keys():  # noqa: SIM118
                    block, rest = name.split(".")[1], name.split(".", 2)[2]
                    kept = after.get_tensor(f"rootstock.{block}.adapters.{index}.{rest}")
                    assert torch.equal(kept, before.get_tensor(name))


def test_the_value_matrices_are_pulled_towards_the_identity(corpora, root, base, stage_one, tmp_path):
    spec = fusion_spec(corpora, base, stage_one)
    tuned = attach(spec, prepare_inputs(root, spec), find_device())
    assert float(tuned.penalty()) == 0
    with torch.no_grad():
        tuned.modules()["block_1_feed_forward"].value.weight[2, 3] += 3.0
    assert float(tuned.penalty()) == pytest.approx(0.01 * 9, rel=1e-5)

    def distance(strength: float) -> float:
        spec = fusion_spec(corpora, base, stage_one, steps=20, regularization=strength)
        tuned = load_tuned(train_here(root, spec, tmp_path).folder / "model")
        return sum(float((m.value.weight - torch.eye(128)).square().sum()) for m in tuned.modules().values())

    assert distance(10.0) < 0.2 * distance(0.0)


def test_the_folder_needs_the_adapters_folders_no_more(corpora, root, base, stage_one, tmp_path):
    copies = [
        str(shutil.copytree(folder, tmp_path / f"run{n}" / "model").parent)
        for n, folder in enumerate(stage_one)
    ]
    spec = fusion_spec(corpora, base, copies, steps=3)
    folder = train_here(root, spec, tmp_path / "state").folder / "model"
    before = logits(load_model(folder))
    for copy in copies:
        shutil.rmtree(copy)
    assert torch.equal(logits(load_model(folder)), before)
    tuned = load_tuned(folder)
    with tuned.disabled():
        assert torch.equal(logits(tuned.model), logits(load_model(base)))


def test_training_is_named_by_what_the_adapters_hold(corpora, root, base, stage_one, tmp_path):
    copies = [str(shutil.copytree(folder, tmp_path / f"{n}")) for n, folder in enumerate(stage_one)]
    spec = fusion_spec(corpora, base, copies)
    inputs = prepare_inputs(root, spec)
    before = training_plan(tmp_path, spec, inputs).key
    shutil.copy(f"{copies[0]}/inserted.safetensors", f"{copies[1]}/inserted.safetensors")
    assert training_plan(tmp_path, spec, inputs).key != before


def test_adapters_of_another_base_or_method_are_refused(corpora, root, base, stage_one, tmp_path):
    other = make_base(tmp_path / "other", seed=4)
    spec = fusion_spec(corpora, other, stage_one)
    with pytest.raises(UserError, match="trained on another base") as error:
        attach(spec, prepare_inputs(root, spec), find_device())
    assert error.value.where == "method.adapters"
    lora = train_here(
        root, spec_of(root, base, method={"kind": "lora", "r": 2}, training={"steps": 1}), tmp_path
    )
    spec = fusion_spec(corpora, base, [stage_one[0], str(lora.folder / "model")])
    with pytest.raises(UserError, match="made by method lora"):
        attach(spec, prepare_inputs(root, spec), find_device())
    spec = fusion_spec(corpora, base, [stage_one[0], str(tmp_path / "nothing")])
    with pytest.raises(UserError, match="no tuned model"):
        training_plan(tmp_path, spec, prepare_inputs(root, spec))


def test_one_adapter_twice_is_refused():
    with pytest.raises(ValueError, match="named twice"):
        AdapterFusion(adapters=("a", "a"))


def test_killed_and_resumed_it_is_the_undisturbed_fusion(corpora, root, base, stage_one, start, tmp_path):
    spec = fusion_spec(corpora, base, stage_one, steps=6)
    spec = spec.model_copy(update={"training": spec.training.model_copy(update={"checkpoint_every": 2})})
    whole = train_here(root, spec, tmp_path / "whole")
    state = tmp_path / "killed"
    checkpoints = training_plan(state, spec, prepare_inputs(root, spec)).scratch / "checkpoints"
    process = start(spec, state)
    deadline = time.monotonic() + 120
    while not list_checkpoints(checkpoints) and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.002)
    process.kill()
    process.join()
    assert train_here(root, spec, state).facts["weights"] == whole.facts["weights"]


def test_accumulated_gradients_and_checkpointed_activations_train_the_same_fusion(
    corpora, root, base, stage_one, tmp_path
):
    models = []
    for number, changes in enumerate(({}, {"micro_batch_tokens": 32}, {"gradient_checkpointing": True})):
        spec = fusion_spec(corpora, base, stage_one, steps=4, regularization=1.0)
        spec = spec.model_copy(update={"training": spec.training.model_copy(update=changes)})
        models.append(logits(load_model(train_here(root, spec, tmp_path / str(number)).folder / "model")))
    assert (models[0] - models[1]).abs().max() < 1e-2
    assert (models[0] - models[2]).abs().max() < 1e-4


def test_packed_documents_stay_apart_and_text_is_generated(fused, base):
    from transformers import AutoTokenizer

    model = load_model(fused.folder / "model")
    require_isolation(model, 32)
    assert generate(model, AutoTokenizer.from_pretrained(base), "orchard knife", 8, 0, 1, 0)
