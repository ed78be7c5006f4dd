"""A tiny BERT for the comparisons of task heads: masked language modelling on texts that no comparison scores.

    python -m benchmarks.tiny_encoder FOLDER

Four layers, 128 wide, about a million parameters, a quarter of an hour on one core. It reads medical abstracts, film reviews,
bank questions and Wikipedia from ROOTSTOCK_DATA; spam and BC5CDR, which are compared on it, are not among them.
"""

import csv
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SPECIAL = {name: f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
VOCABULARY = 1000
POSITIONS = 128
STEPS = 6000


def texts(data: Path) -> Iterator[str]:
    """Sentences and short paragraphs."""
    medical = json.loads((data / "domain_en_medical/pubmedqa_ori_pqal_1-500.json").read_bytes())
    for entry in medical.values():
        yield from entry["CONTEXTS"]
    for side in ("neg", "pos"):
        file = data / f"classification/sentence_polarity_rt-polarity.{side}.part.txt"
        yield from file.read_text(encoding="utf-8", errors="replace").splitlines()
    with (data / "classification/banking77_train.csv").open(encoding="utf-8") as lines:
        yield from (row["text"] for row in csv.DictReader(lines))
    for line in (data / "general_en/wikitext2_valid.txt").read_text(encoding="utf-8").splitlines():
        if len(line) > 60:
            yield line.replace("<unk>", "")


def train_tokenizer(lines: list[str]) -> Any:
    """BERT's pipeline, lower case.

    Returns: transformers.PreTrainedTokenizerFast
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    pieces = Tokenizer(models.WordPiece(unk_token=SPECIAL["unk"]))
    pieces.normalizer = normalizers.BertNormalizer(lowercase=True)
    pieces.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    pieces.train_from_iterator(
        lines,
        trainers.WordPieceTrainer(
            vocab_size=VOCABULARY, special_tokens=list(SPECIAL.values()), show_progress=False
        ),
    )
    pieces.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, pieces.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
    )
    names = {f"{kind}_token": token for kind, token in SPECIAL.items()}
    return PreTrainedTokenizerFast(tokenizer_object=pieces, model_max_length=POSITIONS, **names)


def make_encoder(folder: Path, data: Path) -> float:
    """Train and save; the mean masked loss of the last hundred steps, in nats."""
    import torch
    from transformers import (
        BertConfig,
        BertForMaskedLM,
        BertModel,
        DataCollatorForLanguageModeling,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    set_seed(0)
    lines = list(texts(data))
    tokenizer = train_tokenizer(lines)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=POSITIONS,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        dtype="float32",
    )
    model = BertForMaskedLM(config)
    model.bert = BertModel(config)  # with a pooler, as the heads of text expect it
    model.tie_weights()
    rows = [{"input_ids": ids} for ids in tokenizer(lines, truncation=True, max_length=64)["input_ids"]]
    arguments = TrainingArguments(
        output_dir=str(folder.with_name(folder.name + "-training")),
        max_steps=STEPS,
        per_device_train_batch_size=48,
        learning_rate=1e-3,
        warmup_steps=300,
        weight_decay=0.01,
        lr_scheduler_type="cosine",
        train_sampling_strategy="group_by_length",
        logging_steps=100,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    collate = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.2)
    trainer = Trainer(model, arguments, data_collator=collate, train_dataset=rows)
    trainer.train()
    model.bert.to(torch.float32).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    losses: list[float] = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return losses[-1]


if __name__ == "__main__":
    place = Path(sys.argv[1])
    loss = make_encoder(place, Path(os.environ["ROOTSTOCK_DATA"]) / "data")
    print(f"{place}: masked loss {loss:.2f} nats")
