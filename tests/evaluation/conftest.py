"""Real models: a tiny random Llama that is on every machine, and stories260K where the data folder is."""

import os
from pathlib import Path

import numpy as np
import pytest

VOCAB_SIZE = 64


@pytest.fixture(scope="session")
def tiny_model():
    """A random Llama of two layers, float32, vocabulary 64, context 64; sharp enough that context matters."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        initializer_range=0.5,
        bos_token_id=1,
        eos_token_id=2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="session")
def documents() -> list[np.ndarray]:
    """Twenty documents of 2 to 90 ids (some longer than the tests' windows), the first id always 1."""
    generator = np.random.default_rng(5)
    lengths = [2, 3, 90, *generator.integers(4, 60, 17).tolist()]
    return [np.concatenate([[1], generator.integers(3, VOCAB_SIZE, length - 1)]) for length in lengths]


@pytest.fixture(scope="session")
def data_root() -> Path:
    root = os.environ.get("ROOTSTOCK_DATA")
    if not root:
        pytest.skip("ROOTSTOCK_DATA is not set: the stories260K model and texts are not on this machine")
    return Path(root)


@pytest.fixture(scope="session")
def stories(data_root: Path):
    """The stories260K model and its tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = data_root / "models/stories260K/hf"
    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="session")
def stories_ids(data_root: Path, stories) -> list[np.ndarray]:
    """60 held-out stories, each behind the start token."""
    text = (data_root / "models/stories260K/samples/self_generated_heldout.txt").read_text(encoding="utf-8")
    return encode_lines(stories[1], text, 60)


@pytest.fixture(scope="session")
def chinese_ids(data_root: Path, stories) -> list[np.ndarray]:
    """60 Chinese news sentences, which this English tokenizer spells in bytes."""
    text = (data_root / "data/general_zh/ntrex_zho-CN.txt").read_text(encoding="utf-8")
    return encode_lines(stories[1], text, 60)


def encode_lines(tokenizer, text: str, count: int) -> list[np.ndarray]:
    lines = [line for line in text.splitlines() if line.strip()][:count]
    assert len(lines) == count
    return [
        np.array([tokenizer.bos_token_id, *tokenizer.encode(line, add_special_tokens=False)])
        for line in lines
    ]
