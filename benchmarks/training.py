"""Useful tokens per second of training: Rootstock against transformers.Trainer and TRL's SFTTrainer.

    python -m benchmarks.training [--model FOLDER] [--repetitions 3] [--device cuda]

Every side trains the same model from the same weights on the same label tokens once, with the same optimizer, schedule,
sequence length and number of steps, each in a fresh process, in turn. Only label tokens count; the time is that of the
training loop. Speed is compared only if our held-out loss is as good as the best one's. See benchmarks/README.md.
"""

import argparse
import json
import os
import statistics
from pathlib import Path
from typing import Any

from benchmarks import measure
from benchmarks.training_sides import RIVALS

LIBRARIES = ("torch", "transformers", "trl", "datasets", "accelerate")
SIDES = ("rootstock", *RIVALS)
MODULE = "benchmarks.training"
WORSE_NATS = 0.05
"""Our held-out loss may be so much above the best side's: the order of the documents alone moves it by 0.02 or so."""
PROSE = str(measure.ROOT / "assets" / "general" / "replay" / "*.txt")
SMALL = {"epochs": 1, "sequence_length": 256, "batch_tokens": 4096, "micro_batch_tokens": 2048, "learning_rate": 1e-3, "seed": 17}  # fmt: skip
LARGE = {**SMALL, "sequence_length": 1024, "batch_tokens": 32768, "micro_batch_tokens": 8192, "learning_rate": 3e-4}  # fmt: skip
GPU_ROWS = 20_000


def run_one_side(side: str, model: Path, device: str, state: Path, threads: int) -> dict[str, Any]:
    """What a fresh process does."""
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    import torch

    if threads:
        torch.set_num_threads(threads)
    from benchmarks.training_sides import held_out_loss, lay_out_work, train_rival, train_rootstock

    work = lay_out_work(state, model, _text(device), LARGE if device == "cuda" else SMALL)
    if side == "rootstock":
        trained, times = train_rootstock(state, work)
    else:
        trained, times = train_rival(side, work, state / "unused")
    return {
        "label_tokens": work.label_tokens,
        "documents": len(work.pieces),
        "steps": len(times.processor),
        "seconds": times.seconds,
        "cpu_seconds": times.cpu_seconds_per_step * len(times.processor),
        "held_out_nats": held_out_loss(trained, work.held_out, work.spec.training.sequence_length),
        "peak_memory_bytes": _peak_memory_bytes(device),
    }


def _peak_memory_bytes(device: str) -> int:
    if device == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated())
    return measure.peak_memory_bytes()


def _text(device: str) -> str:
    """The project's prose; on a GPU that is too little, and generated rows take its place."""
    if device == "cpu":
        return PROSE
    from benchmarks.made_up_rows import write_rows

    file = measure.ROOT / ".rootstock" / "benchmarks" / f"rows-{GPU_ROWS}-17.jsonl"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_rows(file, GPU_ROWS, 17)
    return str(file)


def make_model(name: str, folder: Path) -> Path:
    """A new Llama with random weights and the bundled tokenizer: `small` as assets/base, `large` for a GPU."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    sizes = {"small": (128, 352, 6, 4, 2), "large": (1024, 2816, 16, 16, 8)}
    hidden, intermediate, layers, heads, kv_heads = sizes[name]
    tokenizer = AutoTokenizer.from_pretrained(measure.ROOT / "assets" / "base")
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=hidden, intermediate_size=intermediate, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=kv_heads, max_position_embeddings=1024, tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, dtype="float32",
    )  # fmt: skip
    torch.manual_seed(17)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def compare_on(model: Path, repetitions: int, device: str, threads: int) -> dict[str, Any]:
    """All sides in turn on one model; the order turns with every repetition."""
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for repetition in range(repetitions):
        shift = repetition % len(SIDES)
        for side in SIDES[shift:] + SIDES[:shift]:
            with measure.scratch_folder() as folder:
                arguments = ["--side", side, "--model", str(model), "--device", device, "--threads", str(threads), "--state", folder]  # fmt: skip
                runs[side].append(measure.run_side(MODULE, arguments, Path(folder)))
            require_equal(runs)
            print(f"  {side}: {runs[side][-1]['seconds']:.1f} s, held-out {runs[side][-1]['held_out_nats']:.3f}", flush=True)  # fmt: skip
    require_as_good(runs)
    speeds = {side: [run["label_tokens"] / run["seconds"] for run in runs[side]] for side in SIDES}
    fastest = max(RIVALS, key=lambda side: statistics.median(speeds[side]))
    return {
        "speeds": {side: statistics.median(speeds[side]) for side in SIDES},
        "ratios": {side: measure.median_ratio(speeds["rootstock"], speeds[side]) for side in SIDES},
        "cpu_ratios": {side: _cpu_ratio(runs[side], runs["rootstock"]) for side in SIDES},
        "fastest_rival": fastest,
        "runs": runs,
    }


def _cpu_ratio(theirs: list[dict[str, Any]], ours: list[dict[str, Any]]) -> dict[str, float]:
    return measure.median_ratio([run["cpu_seconds"] for run in theirs], [run["cpu_seconds"] for run in ours])


def require_equal(runs: dict[str, list[dict[str, Any]]]) -> None:
    """Stop unless all sides trained the same tokens in about as many steps.

    A side that fills its rows with whole pieces may need a step less: at most 5 % fewer than the one with the most.
    """
    done = [(side, run["label_tokens"], run["steps"]) for side, found in runs.items() for run in found]
    most = max(steps for _, _, steps in done)
    if len({tokens for _, tokens, _ in done}) > 1 or any(steps < 0.95 * most for _, _, steps in done):
        raise SystemExit(f"the sides did not train the same label tokens in as many steps: {done}")


def require_as_good(runs: dict[str, list[dict[str, Any]]]) -> None:
    """Stop unless ours learnt as much as the best."""
    losses = {side: statistics.median(run["held_out_nats"] for run in runs[side]) for side in runs}
    best = min(losses, key=lambda side: losses[side])
    if losses["rootstock"] > losses[best] + WORSE_NATS:
        raise SystemExit(
            f"our held-out loss {losses['rootstock']:.3f} is worse than {best}'s {losses[best]:.3f}"
        )


def table(result: dict[str, Any], command: str) -> list[str]:
    """The comparison as Markdown."""
    lines = ["# Training: useful tokens per second", ""]
    for name, found in result["models"].items():
        run, fastest = found["runs"]["rootstock"][0], found["fastest_rival"]
        ratio = found["ratios"][fastest]
        lines += [
            f"## {name}",
            "",
            f"{run['label_tokens']:,} label tokens in {run['documents']:,} pieces, {run['steps']} steps, {len(found['runs']['rootstock'])} repetitions in turn, medians.",
            "",
            "| side | label tokens/s | Rootstock is ... times as fast | ... times less processor time | held-out nats/token | peak memory (GiB) |",
            "|---|---|---|---|---|---|",
            *(_row(side, found) for side in SIDES),
            "",
            f"**{ratio['ratio']:.2f} times as fast as the fastest rival** ({fastest}; {ratio['lowest']:.2f} to {ratio['highest']:.2f} over the repetitions).",
            "",
        ]
    return [*lines, *measure.machine_lines(result["machine"], command)]


def _row(side: str, found: dict[str, Any]) -> str:
    runs = found["runs"][side]
    wall, cpu = (
        "" if side == "rootstock" else _spread(found[name][side]) for name in ("ratios", "cpu_ratios")
    )
    loss = statistics.median(run["held_out_nats"] for run in runs)
    memory = max(run["peak_memory_bytes"] for run in runs) / 2**30
    return f"| {side} | {found['speeds'][side]:,.0f} | {wall} | {cpu} | {loss:.3f} | {memory:.1f} |"


def _spread(ratio: dict[str, float]) -> str:
    return f"{ratio['ratio']:.2f} ({ratio['lowest']:.2f} to {ratio['highest']:.2f})"


def compare(arguments: argparse.Namespace) -> None:
    """Measure on every model, and write results/training.json and .md (training_cuda on a GPU)."""
    machine = measure.describe_machine(LIBRARIES, arguments.device)
    models = {"the named model": arguments.model} if arguments.model else {}
    with measure.scratch_folder() as folder:
        if not models:
            size = "large" if arguments.device == "cuda" else "small"
            models = {f"a new Llama, {size}": make_model(size, Path(folder) / size)}
            data = os.environ.get("ROOTSTOCK_DATA")
            if data and arguments.device == "cpu":
                models["stories260K"] = Path(data) / "models" / "stories260K" / "hf"
        found = {}
        for name, model in models.items():
            print(name, flush=True)
            found[name] = compare_on(
                model.absolute(), arguments.repetitions, arguments.device, arguments.threads
            )
    result = {"machine": machine, "settings": LARGE if arguments.device == "cuda" else SMALL, "models": found}
    command = f"python -m {MODULE} --repetitions {arguments.repetitions} --device {arguments.device} --threads {arguments.threads}"
    name = "training" if arguments.device == "cpu" else "training_cuda"
    measure.write_results(name, result, table(result, command))


def main() -> None:
    """Compare, or be one side of a comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", type=Path, help="folder; by default a new small Llama")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, default=0, help="of torch; by default all cores")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    for name in ("--state", "--report"):
        parser.add_argument(name, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            print("skipped: there is no CUDA device here")
            return
    if arguments.side:
        report = run_one_side(
            arguments.side, arguments.model, arguments.device, arguments.state, arguments.threads
        )
        arguments.report.write_text(json.dumps(report))
    else:
        compare(arguments)


if __name__ == "__main__":
    main()
