"""Tiny random models of many families, to show that nothing depends on the family."""

from collections.abc import Callable
from typing import Any

import torch
import transformers as t

VOCAB = 64
COMMON = {
    "vocab_size": VOCAB,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
    "initializer_range": 0.3,
}
NEW = {
    **COMMON,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
}
GROUPED = {**NEW, "intermediate_size": 32, "num_key_value_heads": 1, "head_dim": 8}
BERT = {**NEW, "intermediate_size": 32}

CAUSAL: dict[str, Callable[[], Any]] = {
    "llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**GROUPED)),
    "qwen2": lambda: t.Qwen2ForCausalLM(t.Qwen2Config(**{**GROUPED})),
    "qwen3": lambda: t.Qwen3ForCausalLM(t.Qwen3Config(**GROUPED)),
    "gemma3": lambda: t.Gemma3ForCausalLM(t.Gemma3TextConfig(**GROUPED)),
    "gpt2": lambda: t.GPT2LMHeadModel(t.GPT2Config(**COMMON, n_embd=16, n_layer=2, n_head=2, n_positions=64)),
    "gpt_neox": lambda: t.GPTNeoXForCausalLM(t.GPTNeoXConfig(**NEW, intermediate_size=32)),
    "opt": lambda: t.OPTForCausalLM(t.OPTConfig(**NEW, ffn_dim=32, word_embed_proj_dim=16)),
    "bloom": lambda: t.BloomForCausalLM(t.BloomConfig(**COMMON, hidden_size=16, n_layer=2, n_head=2)),
    "olmo2": lambda: t.Olmo2ForCausalLM(
        t.Olmo2Config(**{k: v for k, v in GROUPED.items() if k != "head_dim"})
    ),
    "phi": lambda: t.PhiForCausalLM(t.PhiConfig(**NEW, intermediate_size=32)),
    "qwen3_moe": lambda: t.Qwen3MoeForCausalLM(
        t.Qwen3MoeConfig(**GROUPED, moe_intermediate_size=8, num_experts=4, num_experts_per_tok=2)
    ),
}
ENCODERS: dict[str, Callable[[], Any]] = {
    "bert": lambda: t.BertForSequenceClassification(t.BertConfig(**BERT)),
    "roberta": lambda: t.RobertaForSequenceClassification(t.RobertaConfig(**BERT)),
    "distilbert": lambda: t.DistilBertForSequenceClassification(
        t.DistilBertConfig(vocab_size=VOCAB, dim=16, n_layers=2, n_heads=2, hidden_dim=32, max_position_embeddings=64,
                           initializer_range=0.3)
    ),
    "electra": lambda: t.ElectraForSequenceClassification(t.ElectraConfig(**BERT, embedding_size=16)),
    "deberta_v2": lambda: t.DebertaV2ForSequenceClassification(t.DebertaV2Config(**BERT)),
    "modernbert": lambda: t.ModernBertForSequenceClassification(
        t.ModernBertConfig(**{**BERT, "cls_token_id": 3, "sep_token_id": 4})
    ),
}  # fmt: skip
UNREADABLE: dict[str, Callable[[], Any]] = {
    "mamba": lambda: t.MambaForCausalLM(
        t.MambaConfig(**COMMON, hidden_size=16, num_hidden_layers=2, state_size=4)
    ),
    "albert: one block runs many times": lambda: t.AlbertForSequenceClassification(
        t.AlbertConfig(**BERT, embedding_size=16)
    ),
}


def make(name: str) -> Any:
    """The model of this name, in evaluation, always with the same weights."""
    torch.manual_seed(5)
    return {**CAUSAL, **ENCODERS, **UNREADABLE}[name]().eval()
