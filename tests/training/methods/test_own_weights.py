"""Methods that train some of the base's own parameters: which, how many, and the base's own come back."""

import pytest
import torch
from pydantic import ValidationError

from schemas.errors import UserError
from schemas.spec.methods.subset import BitFit, HeadOnly, Selective
from tasks.training.loop.progress_file import read_metrics
from tasks.training.methods import bitfit, head_only, selective
from tasks.training.methods.parts.own_weights import find_blocks, load_changed
from tasks.training.models.load import load_model, load_tuned
from tasks.training.train import train
from tests.training.methods.tiny_models import (
    biased_llama,
    context,
    logits,
    tiny_bert,
    train_a_little,
    trainable,
)
from tests.training.prepared import prepare_inputs, spec_of


def select(base, **settings):
    return selective.attach(load_model(base), Selective(**settings), context())


@pytest.mark.parametrize(("choose", "layer"), [("first", "0"), ("last", "1")])
def test_whole_layers_train_at_the_chosen_end(base, choose, layer):
    tuned = select(base, choose=choose, layers=1)
    names = {name for name, _ in tuned.model.named_parameters() if name.startswith(f"model.layers.{layer}.")}
    assert set(trainable(tuned.model)) == names
    assert len(names) == 9
    assert tuned.facts() == {"trained": sorted(names)}


def test_patterns_name_parameters(base):
    tuned = select(base, choose="patterns", patterns=("*.self_attn.q_proj.weight", "model.norm.*"))
    assert set(trainable(tuned.model)) == {
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.1.self_attn.q_proj.weight",
        "model.norm.weight",
    }


def test_layers_with_the_largest_gradients_are_chosen(base):
    """Layer 0's output is scaled up where its own input enters, so its gradient is the larger, and the other way round."""
    ids = torch.arange(3, 20)[None]
    batches = [{"input_ids": ids, "labels": ids}, {"input_ids": ids + 20, "labels": ids + 20}]
    for bigger in (0, 1):
        model = load_model(base)
        with torch.no_grad():
            model.model.layers[1 - bigger].self_attn.o_proj.weight.mul_(1e-3)
            model.model.layers[1 - bigger].mlp.down_proj.weight.mul_(1e-3)
            model.model.layers[1 - bigger].post_attention_layernorm.weight.mul_(1e-3)
            model.model.layers[1 - bigger].input_layernorm.weight.mul_(1e-3)
        tuned = selective.attach(model, Selective(choose="gradient", layers=1), context(batches=batches))
        assert {name.split(".")[2] for name in trainable(tuned.model)} == {str(bigger)}
        assert all(p.grad is None for p in tuned.model.parameters())
        norms = tuned.facts()["gradient_norms"]
        expected = []
        for batch in batches:
            model.requires_grad_(True).zero_grad()
            model(**batch).loss.backward()
            expected.append(
                sum(p.grad.square().sum() for p in model.model.layers[bigger].parameters()) ** 0.5
            )
        assert norms[str(bigger)] == pytest.approx(float(sum(expected)) / 2, rel=1e-4)
        one = Selective(choose="gradient", layers=1, gradient_batches=1)
        norms = selective.attach(model, one, context(batches=batches)).facts()["gradient_norms"]
        assert norms[str(bigger)] == pytest.approx(float(expected[0]), rel=1e-4)


def test_what_is_not_there_is_refused(base):
    with pytest.raises(UserError, match="3 layers are to train, but the model has 2") as error:
        select(base, layers=3)
    assert error.value.where == "method.layers"
    with pytest.raises(UserError, match="no parameter of the model matches attention") as error:
        select(base, choose="patterns", patterns=("attention",))
    assert "model.embed_tokens.weight" in error.value.fix
    with pytest.raises(UserError, match="no list of equal layers"):
        find_blocks(torch.nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"choose": "patterns"}, "patterns"),
        ({"patterns": ("a",)}, "patterns"),
        ({"choose": "patterns", "patterns": ("a",), "layers": 1}, "layers"),
        ({"gradient_batches": 2}, "gradient_batches"),
    ],
)
def test_settings_without_an_effect_are_refused(settings, key):
    with pytest.raises(ValidationError, match=f"{key}: "):
        Selective(**settings)


def test_only_what_trained_is_stored_and_the_base_comes_back(base, tmp_path):
    tuned = select(base, layers=1)
    train_a_little(tuned.model)
    tuned.save(tmp_path, "base")
    trained, plain = logits(tuned.model), logits(load_model(base))
    with tuned.disabled():
        assert torch.equal(logits(tuned.model), plain)
    assert torch.equal(logits(tuned.model), trained)
    parameters = sum(p.numel() for p in trainable(tuned.model).values())
    assert 4 * parameters <= (tmp_path / "changed.safetensors").stat().st_size < 4 * parameters + 2000
    again = load_changed(load_model(base), tmp_path, None)
    assert torch.equal(logits(again.model), trained)
    with again.disabled():
        assert torch.equal(logits(again.model), plain)
    with pytest.raises(UserError, match="do not fit the base"):
        load_changed(tiny_bert(), tmp_path, None)


def test_a_head_alone_trains():
    model = tiny_bert()
    tuned = head_only.attach(model, HeadOnly(), context(("classifier",)))
    assert set(trainable(tuned.model)) == {"classifier.weight", "classifier.bias"}


def test_a_language_model_has_no_new_head(root, base):
    with pytest.raises(UserError, match="no new head") as error:
        head_only.attach(load_model(base), HeadOnly(), context())
    assert "lm_head.*" in error.value.fix
    with pytest.raises(ValidationError, match=r"method\.kind: 'head_only' trains a task's new head"):
        spec_of(root, base, method={"kind": "head_only"})


def test_bitfit_trains_every_bias_and_nothing_else():
    tuned = bitfit.attach(tiny_bert(), BitFit(), context())
    assert set(trainable(tuned.model)) == {
        n for n, _ in tuned.model.named_parameters() if n.endswith(".bias")
    }
    per_layer = 3 * 16 + 16 + 16 + 32 + 16 + 16  # q k v, output, norm, inner, output, norm
    assert sum(p.numel() for p in trainable(tuned.model).values()) == 2 * per_layer + 16 + 16 + 3


def test_bitfit_trains_the_papers_half():
    tuned = bitfit.attach(tiny_bert(), BitFit(biases="query_and_second_mlp"), context(("classifier",)))
    names = {name for name in trainable(tuned.model) if "classifier" not in name}
    parts = {name.split("layer.")[1].split(".", 1)[1] for name in names}
    assert parts == {"attention.self.query.bias", "intermediate.dense.bias"}
    assert sum(p.numel() for n, p in trainable(tuned.model).items() if n in names) == 2 * (16 + 32)


@pytest.mark.parametrize(("biases", "percent"), [("all", 0.08), ("query_and_second_mlp", 0.04)])
def test_of_bert_large_as_much_trains_as_table_1_says(biases, percent):
    from transformers import BertConfig, BertModel

    sizes = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
    with torch.device("meta"):
        model = BertModel(BertConfig(**sizes, intermediate_size=4096))
    tuned = bitfit.attach(model, BitFit(biases=biases), context())
    trained = sum(p.numel() for p in trainable(tuned.model).values())
    assert round(100 * trained / sum(p.numel() for p in model.parameters()), 2) == percent


def test_a_model_without_biases_is_refused_with_a_way_out(base):
    with pytest.raises(UserError, match="LlamaForCausalLM has no biases") as error:
        bitfit.attach(load_model(base), BitFit(), context())
    assert "ia3" in error.value.fix


def test_biases_that_are_not_those_of_the_subset_are_offered(base):
    """Qwen2 has biases on q, k and v alone."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
            num_key_value_heads=2,
        )
    )  # fmt: skip
    assert len(trainable(bitfit.attach(model, BitFit(), context()).model)) == 3
    with pytest.raises(UserError, match=r"gate_proj\.bias is missing") as error:
        bitfit.attach(model, BitFit(biases="query_and_second_mlp"), context())
    assert error.value.fix == "set it to all: the model has 3 others"


def test_bitfit_trains_a_language_model_with_biases(root, base, tmp_path):
    biased = biased_llama(base, tmp_path / "biased")
    spec = spec_of(root, biased, method={"kind": "bitfit"}, training={"steps": 8, "learning_rate": 0.05})
    step = train(tmp_path / "state", spec, prepare_inputs(root, spec))
    losses = [line.loss for line in read_metrics(step.folder / "metrics.jsonl")]
    assert sum(losses[-2:]) < sum(losses[:2])
    tuned = load_tuned(step.folder / "model")
    with tuned.disabled():
        assert torch.equal(logits(tuned.model), logits(load_model(biased)))
    assert (
        step.facts["parameters"]["changed"]
        == step.facts["parameters"]["trainable"]
        == 2 * (16 + 8 + 8 + 16 + 32 + 32 + 16)
    )
