"""The sides of the training benchmark: each trains one model once through the same pieces of documents."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from schemas.spec.run import RunSpec

RIVALS = ("trainer", "trainer_by_length", "sft_packed", "sft_packed_flat", "sft_default")


@dataclass(frozen=True)
class Work:
    """What every side trains: pieces of documents, ids with BOS and EOS, each at most a sequence long."""

    spec: RunSpec
    inputs: Any
    """TrainingInputs of our side; its plan has the same pieces, packed."""
    pieces: list[list[int]]
    held_out: list[list[int]]
    steps: int
    sequences_per_step: int

    @property
    def label_tokens(self) -> int:
        return sum(len(piece) - 1 for piece in self.pieces)


def lay_out_work(state: Path, model: Path, text: str, settings: dict[str, Any]) -> Work:
    """Read, split, tokenise and plan with our data stage; the contract is left out, it has nothing to do with speed."""
    from schemas.spec.sources import Source
    from tasks.data.plan.plan import load_plan, plan_training
    from tasks.data.prepare import Prepared, Tokenized
    from tasks.data.split.divide import Fate, divide, load_fates
    from tasks.data.tokens.tokenize import tokenize_source
    from tasks.data.tokens.tokenizer import special_ids
    from tasks.data.validate.sources import validate_source
    from tasks.training.inputs import TrainingInputs

    source = {"path": text, "contract": "general_text"}
    spec = RunSpec.model_validate(
        {
            "name": "benchmark",
            "base": str(model),
            "domain": [source],
            "mixture": {"replay_ratio": 0},
            "training": settings,
            "evaluation": {"domain_holdout": 0.1, "general": [source]},
        }
    )
    domain = validate_source(state, Source(**source), "domain", 0)
    divided = divide(state, spec, [domain])
    tokens, special = tokenize_source(state, domain, model), special_ids(model)
    plan = plan_training(state, spec, [domain], [tokens], divided, special)
    tokenized = Tokenized(special, {domain.label: tokens}, plan)
    parts = tokenized.training_tokens(Prepared((domain,), (), divided))
    pieces = [
        parts[source][part].tokens[start : start + length].tolist()
        for source, part, start, length in load_plan(plan)[0][["source", "part", "start", "length"]].tolist()
    ]
    fates = load_fates(divided, domain)
    held_out = [
        part.document(row).tolist()
        for part, fate in zip(parts[0], fates, strict=True)
        for row in (fate == Fate.HELD_OUT).nonzero()[0]
    ]
    report, inputs = tokenized.mixture, TrainingInputs(model, str(model), plan, parts, special)
    return Work(spec, inputs, pieces, held_out, report.steps, report.sequences_per_step)


@dataclass
class Times:
    """When training began and when each step had been logged."""

    seconds: float = 0.0
    """From the beginning to the last step."""
    processor: list[float] = field(default_factory=list)
    """Processor time of this process after each step: the first one warms up, so it counts from there."""

    def note(self, seconds: float) -> None:
        self.seconds = seconds
        self.processor.append(time.process_time())

    @property
    def cpu_seconds_per_step(self) -> float:
        return (self.processor[-1] - self.processor[0]) / (len(self.processor) - 1)


def train_rootstock(state: Path, work: Work) -> tuple[Any, Times]:
    """Our training step with everything it always does."""
    from tasks.training.models.load import load_model
    from tasks.training.train import train

    times = Times()
    step = train(state, work.spec, work.inputs, lambda metrics, _: times.note(metrics.seconds))
    return load_model(step.folder / "model"), times


def train_rival(side: str, work: Work, output: Path) -> tuple[Any, Times]:
    """Another library's loop over the same pieces in as many steps."""
    from transformers import TrainerCallback

    from tasks.training.models.load import load_model

    times = Times()

    class Clock(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.started = time.monotonic()

        def on_log(self, *_: Any, logs: dict[str, Any], **__: Any) -> None:
            if "loss" in logs:  # not the summary after training
                times.note(time.monotonic() - self.started)

    model = load_model(work.inputs.base)
    make = _sft if side.startswith("sft") else _trainer
    trainer = make(side, work, model, output)
    trainer.callback_handler.callbacks.insert(0, Clock())
    trainer.train()
    return trainer.model, times


def _arguments(work: Work, rows: int, accumulate: int, output: Path) -> dict[str, Any]:
    """The settings that tasks.training.train makes of the same specification."""
    import math

    import torch

    training, gpu = work.spec.training, torch.cuda.is_available()
    return {
        "output_dir": str(output),
        "per_device_train_batch_size": rows,
        "gradient_accumulation_steps": accumulate,
        "num_train_epochs": 1,
        "learning_rate": training.learning_rate,
        "lr_scheduler_type": training.schedule,
        "warmup_steps": math.ceil(training.warmup_ratio * work.steps),
        "weight_decay": training.weight_decay,
        "adam_beta2": training.adam_beta2,
        "max_grad_norm": training.max_grad_norm,
        "optim": "adamw_torch_fused",
        "seed": training.seed,
        "bf16": gpu,
        "use_cpu": not gpu,
        "dataloader_pin_memory": gpu,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
    }


def _micro_sequences(work: Work) -> int:
    """Sequences per forward pass of our side."""
    training = work.spec.training
    return (training.micro_batch_tokens or training.batch_tokens) // training.sequence_length


def _trainer(side: str, work: Work, model: Any, output: Path) -> Any:
    """transformers.Trainer, a piece per row, padded; the labels are given, or its collator would mask EOS as padding."""
    from datasets import Dataset
    from transformers import AutoTokenizer, DataCollatorForSeq2Seq, Trainer, TrainingArguments

    tokenizer = AutoTokenizer.from_pretrained(work.inputs.base)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    micro = _micro_sequences(work)
    accumulate = work.sequences_per_step // micro
    rows = -(-len(work.pieces) // (work.steps * accumulate))
    settings = _arguments(work, rows, accumulate, output)
    if side == "trainer_by_length":
        settings["train_sampling_strategy"] = "group_by_length"
    model.config.use_cache = False
    return Trainer(
        model=model,
        args=TrainingArguments(**settings),
        train_dataset=Dataset.from_dict({"input_ids": work.pieces, "labels": work.pieces}),
        data_collator=DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=-100),
    )


def _sft(side: str, work: Work, model: Any, output: Path) -> Any:
    """TRL's SFTTrainer without gradient checkpointing (its default costs a third more).

    Packed: one sequence per forward pass, or (`flat`) as many as ours has, which TRL lays end to end: attention grows
    with the square of that. Not packed: a piece per row, padded, as it comes.
    """
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    micro = _micro_sequences(work)
    rows, accumulate = (micro, work.sequences_per_step // micro) if side != "sft_packed" else (1, work.sequences_per_step)  # fmt: skip
    if side == "sft_default":
        rows = -(-len(work.pieces) // (work.steps * accumulate))
    packing = {"packing": side != "sft_default", "max_length": work.spec.training.sequence_length}
    settings = {**_arguments(work, rows, accumulate, output), **packing, "gradient_checkpointing": False}
    return SFTTrainer(
        model=model,
        args=SFTConfig(**settings),
        train_dataset=Dataset.from_dict({"input_ids": work.pieces}),
        processing_class=AutoTokenizer.from_pretrained(work.inputs.base),
    )


def held_out_loss(model: Any, documents: Sequence[list[int]], length: int) -> float:
    """Nats per label token of documents that nobody trained on."""
    import numpy as np
    import torch

    from tasks.evaluation.scoring.loss import score_documents

    device = "cuda" if torch.cuda.is_available() else "cpu"
    arrays = [np.array(ids) for ids in documents]
    nats = score_documents(model.to(device), arrays, length, 4096, device)
    return float(nats.sum()) / sum(len(ids) - 1 for ids in documents)
