"""A whole run in seconds: a real Llama that knows which byte follows which, and real text."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.command_line import ROOT

END = 256
VOCABULARY = 260  # 256 bytes, the end token, and some to make the width divide


@dataclass(frozen=True)
class Project:
    """A folder with data, a base model and a specification without mistakes."""

    folder: Path
    spec: Path

    def change(self, **keys: Any) -> None:
        """Replace top-level keys of the specification."""
        self.spec.write_text(json.dumps({**json.loads(self.spec.read_text()), **keys}, indent=1))


def general_texts(part: str) -> list[str]:
    """English prose of this repository, a line each."""
    files = sorted((ROOT / "assets/general" / part).glob("en_*.txt"))
    return [line for file in files for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of one layer whose logits are the log of the bigram counts of general prose: it has something to forget.

    Embeddings are one-hot and the blocks add nothing, so logits = head @ one-hot(byte).
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("base")
    counts = np.full((VOCABULARY, VOCABULARY), 0.01)
    for text in general_texts("replay"):
        ids = np.array([*text.encode(), END])
        np.add.at(counts, (ids[:-1], ids[1:]), 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=VOCABULARY, hidden_size=VOCABULARY, intermediate_size=32, num_hidden_layers=1,
            num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=256, eos_token_id=END,
            bos_token_id=None, tie_word_embeddings=False, dtype="float32",
        )  # fmt: skip
        model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(torch.eye(VOCABULARY))
        log = np.log(counts / counts.sum(axis=1, keepdims=True)).T  # (next, this)
        model.lm_head.weight.copy_(torch.tensor(log / VOCABULARY**0.5))
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
    model.save_pretrained(folder)
    save_byte_tokenizer(folder)
    return folder


def save_byte_tokenizer(folder: Path) -> None:
    """A tokenizer without merges: one id a byte."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    encode = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    shown = {byte: encode.pre_tokenize_str(chr(byte))[0][0] for byte in range(128)}
    ids = {character: byte for byte, character in shown.items()}
    rest = iter(character for character in alphabet if character not in ids)
    ids |= {next(rest): byte for byte in range(128, 256)}
    ids["<end>"] = END
    tokenizer = Tokenizer(models.BPE(ids, []))
    tokenizer.pre_tokenizer = encode
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<end>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<end>", "model_max_length": 256}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


@pytest.fixture
def project(tmp_path: Path, tiny_base: Path) -> Project:
    """Python's language reference as the domain, English prose to replay and to probe."""
    return make_project(tmp_path, tiny_base)


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Project:
    """The same in two shards, so with worker processes; one for all tests of a file, which only read it."""
    return make_project(tmp_path_factory.mktemp("sharded"), tiny_base, domain_files=2)


def make_project(folder: Path, base: Path, domain_files: int = 1) -> Project:
    """Each file is a shard: two of them are read, gated and tokenised by worker processes."""
    from pydoc_data.topics import topics

    rows = [{"text": " ".join(text.split())[:240], "topic": name} for name, text in sorted(topics.items())]
    for number in range(domain_files):
        lines = "".join(json.dumps(row) + "\n" for row in rows[number:90:domain_files])
        (folder / f"domain-{number}.jsonl").write_text(lines)
    for part in ("replay", "heldout"):
        texts = [
            sentence for text in general_texts(part) for sentence in text.split(". ") if len(sentence) > 30
        ]
        (folder / f"{part}.txt").write_text("\n".join(texts[:60]) + "\n", encoding="utf-8")
    spec = {
        "name": "tiny",
        "base": str(base),
        "domain": [{"path": "domain-*.jsonl", "contract": "domain_text", "group": "topic"}],
        "replay": [{"path": "replay.txt", "contract": "general_text"}],
        "mixture": {"replay_ratio": 0.25},
        "training": {
            "epochs": 3, "sequence_length": 128, "batch_tokens": 1024, "learning_rate": 2e-3, "checkpoint_every": 5,
        },
        "evaluation": {
            "domain_holdout": 0.2,
            "general": [{"path": "heldout.txt", "contract": "general_text"}],
            "max_tokens": 4000,
        },
        "promotion": {"min_gain": 0.0, "max_forgetting": 1.0, "confidence": 0.8},
    }  # fmt: skip
    (folder / "spec.yaml").write_text(json.dumps(spec, indent=1))  # JSON is YAML
    return Project(folder, folder / "spec.yaml")
