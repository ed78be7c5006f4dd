"""Architectures that would mix packed documents are refused before training."""

import pytest
import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    MambaConfig,
    MambaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from schemas.errors import UserError
from tasks.training.batches.isolation import require_isolation
from tasks.training.models.load import load_model

SIZES = {"vocab_size": 64, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2, "initializer_range": 0.3}
ATTENTION = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}

MIXING = {
    "bloom: no position ids at all": lambda: BloomForCausalLM(BloomConfig(**SIZES, hidden_size=16, n_layer=2, n_head=2)),
    "mamba: a state, no attention": lambda: MambaForCausalLM(
        MambaConfig(**SIZES, hidden_size=16, num_hidden_layers=2, state_size=4)
    ),
    "opt: position ids only choose an embedding": lambda: OPTForCausalLM(
        OPTConfig(**SIZES, **ATTENTION, ffn_dim=32, word_embed_proj_dim=16, max_position_embeddings=64)
    ),
}  # fmt: skip
ISOLATING = {
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**SIZES, n_embd=16, n_layer=2, n_head=2, n_positions=64)),
    "qwen3": lambda: Qwen3ForCausalLM(
        Qwen3Config(**SIZES, **ATTENTION, num_key_value_heads=1, intermediate_size=32, head_dim=8)
    ),
}


@pytest.mark.parametrize("name", MIXING)
def test_a_model_that_mixes_packed_documents_is_refused(name):
    torch.manual_seed(0)
    model = MIXING[name]()
    with pytest.raises(UserError, match="packed documents see each other") as error:
        require_isolation(model, 32)
    assert type(model).__name__ in error.value.where
    assert "position_ids" in error.value.fix


@pytest.mark.parametrize("name", ISOLATING)
@pytest.mark.parametrize("length", [8, 32])
def test_a_model_that_keeps_them_apart_passes(name, length):
    torch.manual_seed(0)
    require_isolation(ISOLATING[name](), length)


def test_the_bundled_architecture_passes(base):
    require_isolation(load_model(base), 32)
