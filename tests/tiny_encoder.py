"""A tiny encoder on any machine: a real WordPiece tokenizer trained on the bundled prose, and random BERT weights."""

import json
from collections.abc import Iterable
from pathlib import Path

from tests.tiny_base import prose

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def make_encoder(
    folder: Path, texts: Iterable[str] = (), positions: int = 64, seed: int = 3, width: int = 32
) -> Path:
    """Write a complete model folder: BERT of two layers without a head, as pretraining leaves it."""
    import torch
    from transformers import BertConfig, BertModel

    folder.mkdir(parents=True)
    tokenizer = train_wordpiece([*prose(), *texts])
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": positions, **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1))
    bert = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=positions,
        initializer_range=0.2,  # at 0.02 so narrow a model sees hardly any difference between texts
        pad_token_id=tokenizer.token_to_id("[PAD]"),
        dtype="float32",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        BertModel(bert).save_pretrained(folder)
    return folder


def train_wordpiece(texts: Iterable[str], vocab_size: int = 900):
    """BERT's own pipeline: clean, split Chinese characters, lower case, cut at blanks and punctuation, WordPiece."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size, special_tokens=SPECIAL, show_progress=False, limit_alphabet=400
    )
    tokenizer.train_from_iterator(texts, trainer)
    ends = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    return tokenizer
