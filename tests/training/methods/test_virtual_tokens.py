"""Prompts and prefixes: how many numbers train, where they start, what the model computes with them."""

import pytest
import torch
from pydantic import ValidationError
from transformers import AutoTokenizer, DynamicCache

from schemas.errors import UserError
from schemas.spec.methods.peft import PrefixTuning, PromptTuning, PTuning, PTuningV2
from tasks.data.tokens.tokenizer import load_tokenizer
from tasks.evaluation.scoring.generate import generate
from tasks.training.methods import p_tuning, prefix_tuning, prompt_tuning
from tasks.training.methods.parts.peft_backed import load_peft
from tasks.training.models.load import load_model
from tasks.training.train import train
from tests.training.methods.tiny_models import IDS, context, logits, train_a_little, trainable
from tests.training.prepared import prepare_inputs, spec_of

HIDDEN, LAYERS, KEYS = 16, 2, 8
"""Of the tiny Llama; KEYS = key/value heads x head size."""


def size(tuned):
    return sum(p.numel() for p in trainable(tuned.model).values())


def prompt(base, **settings):
    return prompt_tuning.attach(load_model(base), PromptTuning(**settings), context(tokenizer=base))


def embeddings(tuned):
    return tuned.model.prompt_encoder["default"].embedding.weight.detach()


def test_a_prompt_is_one_embedding_a_token(base):
    assert size(prompt(base, virtual_tokens=7)) == 7 * HIDDEN


def test_a_prompt_starts_where_it_is_told_to(base):
    table = load_model(base).get_input_embeddings().weight.detach()
    random = embeddings(prompt(base, virtual_tokens=50, init="random"))
    assert 0.45 < random.abs().max() <= 0.5, "uniform in [-0.5, 0.5]"
    drawn = embeddings(prompt(base, virtual_tokens=50))
    assert all((table == row).all(dim=1).any() for row in drawn)
    assert len(drawn.unique(dim=0)) > 30
    words = load_tokenizer(base).encode("The council", add_special_tokens=False).ids
    told = embeddings(prompt(base, virtual_tokens=len(words) + 1, init="text", text="The council"))
    assert torch.equal(told, table[[*words, words[0]]])
    assert torch.equal(
        embeddings(prompt(base, virtual_tokens=1, init="text", text="The council")), table[words[:1]]
    )


def test_a_prompt_stands_in_front_of_the_text(base):
    tuned = prompt(base, virtual_tokens=5)
    train_a_little(tuned.model)
    plain = load_model(base)
    with torch.inference_mode():
        inputs = torch.cat([embeddings(tuned)[None], plain.get_input_embeddings()(IDS)], dim=1)
        expected = plain(inputs_embeds=inputs).logits[:, 5:]
    assert (logits(tuned.model) - expected).abs().max() < 1e-5


def test_a_prefix_is_keys_and_values_in_every_layer(base):
    tuned = prefix_tuning.attach(load_model(base), PTuningV2(virtual_tokens=6), context())
    assert size(tuned) == 6 * LAYERS * 2 * KEYS
    train_a_little(tuned.model)
    stored = embeddings(tuned).view(6, LAYERS, 2, 1, KEYS)  # (tokens, layers, 2, heads, head size)
    cache = DynamicCache()
    for layer in range(LAYERS):
        keys, values = (stored[:, layer, part].permute(1, 0, 2)[None] for part in (0, 1))
        cache.update(keys, values, layer)
    plain = load_model(base)
    with torch.inference_mode():
        expected = plain(input_ids=IDS, past_key_values=cache).logits
    assert (logits(tuned.model) - expected).abs().max() < 1e-5
    assert (logits(tuned.model) - logits(plain)).abs().max() > 1e-3


def test_a_prefix_is_made_by_an_mlp_that_is_not_stored(base, tmp_path):
    settings = PrefixTuning(virtual_tokens=6, hidden_size=20)
    tuned = prefix_tuning.attach(load_model(base), settings, context())
    outputs = LAYERS * 2 * KEYS
    assert size(tuned) == 6 * KEYS + (KEYS * 20 + 20) + (20 * outputs + outputs)
    train_a_little(tuned.model)
    tuned.save(tmp_path, "base")
    again = load_peft(load_model(base), tmp_path)
    assert embeddings(again).shape == (6, outputs)
    assert (logits(again.model) - logits(tuned.model)).abs().max() < 1e-6


@pytest.mark.parametrize("encoder", ["mlp", "lstm"])
def test_p_tuning_makes_its_prompt_with_an_encoder_that_is_not_stored(base, tmp_path, encoder):
    tuned = p_tuning.attach(
        load_model(base), PTuning(virtual_tokens=3, encoder=encoder, hidden_size=8), context()
    )
    names = {name.split(".")[2] for name in trainable(tuned.model)}
    assert names == {"embedding", "mlp_head"} | ({"lstm_head"} if encoder == "lstm" else set())
    train_a_little(tuned.model)
    tuned.save(tmp_path, "base")
    again = load_peft(load_model(base), tmp_path)
    assert embeddings(again).shape == (3, HIDDEN)
    assert (logits(again.model) - logits(tuned.model)).abs().max() < 1e-6


@pytest.mark.parametrize("kind", ["prompt_tuning", "prefix_tuning", "p_tuning", "p_tuning_v2"])
def test_a_context_without_room_is_refused_before_training(root, base, tmp_path, kind):
    spec = spec_of(root, base, method={"kind": kind, "virtual_tokens": 97})
    with pytest.raises(UserError, match="97 virtual tokens and texts of 32 are more than the 128") as error:
        train(tmp_path, spec, prepare_inputs(root, spec))
    assert error.value.where == "method.virtual_tokens"
    assert "at most 31" in error.value.fix


def test_generation_counts_the_virtual_tokens(base):
    tuned = prompt(base, virtual_tokens=20)
    tokenizer = AutoTokenizer.from_pretrained(base)
    text = generate(tuned.model, tokenizer, "The", 100, 0, 1, 0)
    assert text
    with pytest.raises(UserError, match="20 of them virtual"):
        generate(tuned.model, tokenizer, "The", 110, 0, 1, 0)


def test_a_model_that_drops_the_prefix_is_refused(base, monkeypatch):
    from peft import PeftModel

    monkeypatch.setattr(PeftModel, "get_prompt", lambda self, batch_size, **_: DynamicCache())
    with pytest.raises(UserError, match="takes no notice"):
        prefix_tuning.attach(load_model(base), PTuningV2(virtual_tokens=2), context())


def test_settings_without_an_effect_are_refused(base):
    with pytest.raises(ValidationError, match="text: "):
        PromptTuning(text="hello")
    with pytest.raises(ValidationError, match="text: "):
        PromptTuning(init="text")
    with pytest.raises(ValidationError, match="dropout: "):
        PTuning(dropout=0.1)
    with pytest.raises(UserError, match="no tokens"):
        prompt(base, init="text", text="")
