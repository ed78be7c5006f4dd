"""Tiny models that are not the tiny Llama: BERT with a task head, models with biases; and contexts to attach methods in."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from tasks.training.methods.base import TrainingContext

IDS = torch.arange(3, 40)[None]


def tiny_bert(tokens: bool = False) -> Any:
    """Random BERT with a head: 3 labels per text, or per token."""
    from transformers import BertConfig, BertForSequenceClassification, BertForTokenClassification

    torch.manual_seed(5)
    config = BertConfig(
        vocab_size=100,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        num_labels=3,
        pad_token_id=0,
    )
    return (BertForTokenClassification if tokens else BertForSequenceClassification)(config).eval()


def biased_llama(base: Path, folder: Path) -> Path:
    """The tiny Llama with biases in every linear layer but the head, as a model folder."""
    from transformers import AutoConfig, AutoModelForCausalLM

    shutil.copytree(base, folder)
    config = AutoConfig.from_pretrained(base)
    config.attention_bias = config.mlp_bias = True
    torch.manual_seed(9)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def tiny_gpt2(base: Path, folder: Path) -> Path:
    """Random GPT-2 of the tiny Llama's sizes and with its tokenizer, as a model folder."""
    from transformers import AutoConfig, GPT2Config, GPT2LMHeadModel

    shutil.copytree(base, folder)
    llama = AutoConfig.from_pretrained(base)
    config = GPT2Config(
        n_embd=llama.hidden_size, n_layer=llama.num_hidden_layers, n_head=llama.num_attention_heads,
        n_positions=llama.max_position_embeddings, initializer_range=0.1,
        embd_pdrop=0.0, resid_pdrop=0.0, attn_pdrop=0.0,  # the draws of dropout follow the layout of a batch
        **{key: getattr(llama, key) for key in ("vocab_size", "bos_token_id", "eos_token_id")},
    )  # fmt: skip
    torch.manual_seed(9)
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def context(
    head: tuple[str, ...] = (),
    batches: Sequence[dict[str, torch.Tensor]] = (),
    steps: int = 10,
    tokenizer: Path = Path(),
    sequence_length: int = 0,
    seed: int = 17,
) -> TrainingContext:
    """What a method is attached in."""

    def again() -> Iterator[dict[str, torch.Tensor]]:
        return iter(batches)

    return TrainingContext(tokenizer, steps, seed, again, head, sequence_length)


def logits(model: Any, ids: torch.Tensor = IDS) -> torch.Tensor:
    """Of the text or of its own tokens (virtual ones stand in front), (1, labels) or (1, T, labels)."""
    with torch.inference_mode():
        out = model.eval()(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    return out[:, -ids.shape[1] :] if out.dim() == 3 else out


def trainable(model: Any) -> dict[str, torch.Tensor]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def train_a_little(model: Any, steps: int = 3, rate: float = 0.05) -> None:
    """A few AdamW steps on one made-up text, so that what trains has moved."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate)
    for _ in range(steps):
        out = model(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits
        flat = out.reshape(-1, out.shape[-1])  # (texts or tokens, labels)
        wanted = torch.arange(len(flat)).remainder(flat.shape[-1])
        torch.nn.functional.cross_entropy(flat, wanted).backward()
        optimizer.step()
        optimizer.zero_grad()
