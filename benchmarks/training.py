"""Useful tokens per second of training: Rootstock against transformers.Trainer and TRL's SFTTrainer.

    python -m benchmarks.training [--model FOLDER] [--repetitions 3] [--device cpu]

Every side tunes the same model on the same documents once, with the same optimizer, sequence length and positions per
step, each in a fresh process, in turn. Label tokens are counted alike; the time is the training loop alone. The
held-out loss after training is measured alike for every side, so that speed bought with quality shows.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import measure

LIBRARIES = ("torch", "transformers", "trl", "accelerate")
SIDES = ("rootstock", "trainer", "sft_packed", "sft_default")
LENGTH, ROWS, LEARNING_RATE, SEED = 256, 16, 5e-4, 17
MODULE = "benchmarks.training"


def documents(model: Path) -> tuple[list[list[int]], list[list[int]]]:
    """Ids of the training and the held-out documents, BOS and EOS included; training ones cut to the sequence length."""
    from tasks.data.tokenize import encode_text

    def read(folder: str) -> list[list[int]]:
        files = sorted((measure.ROOT / "assets" / "general" / folder).glob("*.txt"))
        return encode_text(
            model, [line for file in files for line in file.read_text("utf-8").splitlines() if line]
        )

    step = LENGTH - 1
    cut = [ids[at : at + LENGTH] for ids in read("replay") for at in range(0, len(ids) - 1, step)]
    return cut, read("heldout")


def run_side(side: str, model: Path, device: str) -> dict[str, Any]:
    """Train one side; return label tokens, seconds of the loop, and the held-out loss in nats per token."""
    import torch

    from tasks.evaluation.score import score_documents
    from tasks.training.models import load_model

    torch.manual_seed(SEED)
    train, held_out = documents(model)
    labels = sum(len(ids) - 1 for ids in train)
    network = load_model(model).to(device)
    trainer = {"rootstock": _rootstock, "trainer": _trainer}.get(side, _sft)(side, network, train, model)
    clock = _clock()
    trainer.add_callback(clock)
    trainer.train()
    import numpy as np

    nats = score_documents(network, [np.array(ids) for ids in held_out], LENGTH, 4096, device)
    return {
        "label_tokens": labels,
        "seconds": clock.seconds,
        "steps": trainer.state.global_step,
        "held_out_nats_per_token": float(nats.sum()) / sum(len(ids) - 1 for ids in held_out),
        "peak_memory_bytes": measure.peak_memory_bytes(),
    }


def _clock() -> Any:
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        seconds = 0.0

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.started = time.perf_counter()

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.seconds = time.perf_counter() - self.started

    return Clock()


def _settings(output: str) -> dict[str, Any]:
    import torch

    gpu = torch.cuda.is_available()
    return {
        "output_dir": output, "per_device_train_batch_size": ROWS, "num_train_epochs": 1, "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "constant", "optim": "adamw_torch_fused", "adam_beta2": 0.95, "max_grad_norm": 1.0,
        "logging_steps": 10, "save_strategy": "no", "report_to": [], "disable_tqdm": True, "seed": SEED,
        "use_cpu": not gpu, "bf16": gpu, "dataloader_pin_memory": gpu,
    }  # fmt: skip


def _rootstock(side: str, network: Any, train: list[list[int]], model: Path) -> Any:
    """Our trainer on our packed sequences (the plan's own packing, without the workflow around it)."""
    import numpy as np
    from transformers import TrainingArguments

    from tasks.data.mix import PIECE
    from tasks.data.pack import pack_best_fit
    from tasks.data.tokenize import TokenPart, special_ids
    from tasks.training.dataset import PackedSequences, collate
    from tasks.training.trainer import ResumableTrainer

    lengths = np.array([len(ids) for ids in train])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    pieces = np.zeros(len(train), PIECE)
    pieces["start"], pieces["length"] = offsets[:-1], lengths
    packs = pack_best_fit(lengths, LENGTH)
    order = np.random.default_rng(SEED).permutation(len(packs))
    ordered = np.concatenate([pieces[packs[pack]] for pack in order])
    sequences = np.concatenate([[0], np.cumsum([len(packs[pack]) for pack in order])])
    tokens = TokenPart(np.concatenate(train).astype(np.uint32), offsets)
    dataset = PackedSequences(ordered, sequences, [[tokens]], LENGTH, special_ids(model).pad)
    network.config.use_cache = False
    return ResumableTrainer(
        model=network, args=TrainingArguments(**_settings("unused"), remove_unused_columns=False),
        train_dataset=dataset, data_collator=collate,
    )  # fmt: skip


def _trainer(side: str, network: Any, train: list[list[int]], model: Path) -> Any:
    """transformers.Trainer with its padding collator."""
    from datasets import Dataset
    from transformers import AutoTokenizer, DataCollatorForLanguageModeling, Trainer, TrainingArguments

    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return Trainer(
        model=network, args=TrainingArguments(**_settings("unused")),
        train_dataset=Dataset.from_dict({"input_ids": train}),
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
    )  # fmt: skip


def _sft(side: str, network: Any, train: list[list[int]], model: Path) -> Any:
    """TRL's SFTTrainer: with packing (best-fit decreasing), and as it comes."""
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    tokenizer = AutoTokenizer.from_pretrained(model)
    packing = {"packing": True, "packing_strategy": "bfd"} if side == "sft_packed" else {"packing": False}
    settings = {**_settings("unused"), "gradient_checkpointing": False}
    return SFTTrainer(
        model=network, args=SFTConfig(**settings, max_length=LENGTH, **packing),
        train_dataset=Dataset.from_dict({"input_ids": train}), processing_class=tokenizer,
    )  # fmt: skip


def compare(model: Path, repetitions: int, device: str) -> None:
    """Run every side in turn and write the table."""
    machine = measure.describe_machine(LIBRARIES)
    results: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for repetition in range(repetitions):
        for side in SIDES[repetition % len(SIDES) :] + SIDES[: repetition % len(SIDES)]:
            with measure.scratch_folder() as folder:
                arguments = ["--side", side, "--model", str(model), "--device", device]
                results[side].append(measure.run_side(MODULE, arguments, Path(folder)))
                print(side, results[side][-1], file=sys.stderr)
    speeds = {side: [run["label_tokens"] / run["seconds"] for run in runs] for side, runs in results.items()}
    rivals = {side: statistics.median(values) for side, values in speeds.items() if side != "rootstock"}
    fastest = max(rivals, key=lambda side: rivals[side])
    ratios = {side: measure.median_ratio(speeds["rootstock"], values) for side, values in speeds.items()}
    command = f"python -m benchmarks.training --repetitions {repetitions} --device {device}"
    lines = [
        "# Training: useful tokens per second",
        "",
        *measure.machine_lines(machine, command),
        "",
        "| side | label tokens/s (median) | Rootstock is ... times as fast (lowest to highest pair) | held-out nats/token | steps |",
        "|---|---|---|---|---|",
        *(
            f"| {side} | {statistics.median(speeds[side]):,.0f} | {ratios[side]['ratio']:.2f}"
            f" ({ratios[side]['lowest']:.2f} to {ratios[side]['highest']:.2f}) |"
            f" {statistics.median(run['held_out_nats_per_token'] for run in results[side]):.3f} |"
            f" {results[side][0]['steps']} |"
            for side in SIDES
        ),
        "",
        f"Against the faster rival ({fastest}): {ratios[fastest]['ratio']:.2f}.",
    ]
    measure.write_results(
        "training", {"machine": machine, "command": command, "runs": results, "ratios": ratios}, lines
    )


def main() -> None:
    """Compare, or be one side of a comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=measure.ROOT / "assets" / "base")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--side", choices=SIDES)
    parser.add_argument("--report", type=Path)
    arguments = parser.parse_args()
    if arguments.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise SystemExit("skipped: there is no CUDA device here")
    if arguments.side is None:
        return compare(arguments.model, arguments.repetitions, arguments.device)
    result = run_side(arguments.side, arguments.model.absolute(), arguments.device)
    arguments.report.write_text(json.dumps(result))
    return None


if __name__ == "__main__":
    main()
