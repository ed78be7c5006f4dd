"""What AdapterDrop saves and what it costs: speed and held-out loss with the lowest n blocks' adapters left out.

    python -m benchmarks.adapter_drop [--model FOLDER] [--rounds 7] [--steps 120] [--device cuda]

Three models are trained on Python's own language reference from the same base in the same steps: adapter_pfeiffer,
adapter_drop robust, and adapter_drop specialized to half of the blocks. Each is scored with n = 0, 1, ... blocks left
out. Times are of the same forward (eight texts of 256 tokens, and one of 32, as when a single question is answered) and of the
same training pass (forward and backward), every n in turn in each round,
in another order each time; a ratio is within its round. On a CPU it is processor time, which hardly depends on what
else runs there; on a GPU wall time. See benchmarks/README.md.
"""

import argparse
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import measure

LIBRARIES = ("torch", "transformers")
SETTINGS = {"sequence_length": 256, "batch_tokens": 2048, "micro_batch_tokens": 2048, "learning_rate": 2e-3, "seed": 17}  # fmt: skip
PASSES_PER_TIME = {"forward": 4, "short": 40, "training": 4}
SHORT = 32
"""Tokens of a single question."""


def train_and_score(model: Path, steps: int, folder: Path) -> dict[str, dict[int, float]]:
    """Held-out nats per token of each method with n blocks left out, and of the base."""
    from benchmarks.training_sides import held_out_loss, lay_out_work
    from tasks.data.model.folder import read_config
    from tasks.training.models.load import load_model, load_tuned
    from tasks.training.train import train

    text = folder / "python_reference.jsonl"
    subprocess.run(
        [sys.executable, str(measure.ROOT / "assets" / "collect_python_reference.py"), str(text)], check=True
    )
    blocks = int(read_config(model / "config.json")["num_hidden_layers"])
    methods = {
        "adapter_pfeiffer": {"kind": "adapter_pfeiffer"},
        "robust": {"kind": "adapter_drop"},
        "specialized": {"kind": "adapter_drop", "training": "specialized", "drop_blocks": blocks // 2},
    }
    work = lay_out_work(folder / "state", model, str(text), {**SETTINGS, "steps": steps})
    losses: dict[str, dict[int, float]] = {
        "base": {0: held_out_loss(load_model(model), work.held_out, SETTINGS["sequence_length"])}
    }
    for name, method in methods.items():
        spec = type(work.spec).model_validate({**work.spec.model_dump(mode="json"), "method": method})
        tuned = load_tuned(train(folder / "state", spec, work.inputs).folder / "model")
        losses[name] = {}
        for dropped in range(blocks // 2 if name == "specialized" else 0, blocks):
            tuned.first_block = dropped
            losses[name][dropped] = held_out_loss(tuned.model, work.held_out, SETTINGS["sequence_length"])
        print(f"  {name}: {losses[name]}", flush=True)
    return losses


def time_passes(model: Path, rounds: int, device: str) -> dict[str, dict[int, list[float]]]:
    """Seconds of both forward passes and of a training pass for each n, one number per round."""
    import torch

    from schemas.spec.methods.adapters import AdapterDrop
    from tasks.training.methods import adapter_drop
    from tasks.training.methods.base import TrainingContext
    from tasks.training.models.weights import load_plain

    loaded = load_plain(model).to(device)
    tuned = adapter_drop.attach(loaded, AdapterDrop(), TrainingContext(model, 1, 17, lambda: iter(())))
    length = SETTINGS["sequence_length"]
    ids = torch.arange(8 * length, device=device).remainder(1000).view(8, length)

    def forward() -> None:
        tuned.model.eval()
        with torch.inference_mode():
            tuned.model(input_ids=ids, use_cache=False)

    def short() -> None:
        tuned.model.eval()
        with torch.inference_mode():
            tuned.model(input_ids=ids[:1, :SHORT], use_cache=False)

    def training() -> None:
        tuned.model.train()
        tuned.model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        tuned.model.zero_grad()

    counts = range(len(tuned.architecture.blocks))
    times: dict[str, dict[int, list[float]]] = {}
    for name, work in (("forward", forward), ("short", short), ("training", training)):
        times[name] = {n: [] for n in counts}
        for number in range(rounds + 1):
            for n in [*counts[number % len(counts) :], *counts[: number % len(counts)]]:
                tuned.first_block = n
                seconds = _seconds(work, device, PASSES_PER_TIME[name])
                if number:  # the first round warms up
                    times[name][n].append(seconds)
    return times


def _seconds(work: Callable[[], None], device: str, passes: int) -> float:
    import torch

    clock = time.perf_counter if device == "cuda" else time.process_time
    if device == "cuda":
        torch.cuda.synchronize()
    began = clock()
    for _ in range(passes):
        work()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - began


def speed_ups(times: dict[int, list[float]]) -> dict[int, dict[str, float]]:
    """How many times as fast as with every adapter: geometric mean over the rounds, with one-sided 95 % bounds."""
    from scipy.special import stdtrit

    found = {}
    for n, seconds in times.items():
        logs = [math.log(whole / part) for whole, part in zip(times[0], seconds, strict=True)]
        mean, error = statistics.mean(logs), statistics.stdev(logs) / len(logs) ** 0.5
        margin = float(stdtrit(len(logs) - 1, 0.95)) * error
        ratio, lowest, highest = (math.exp(value) for value in (mean, mean - margin, mean + margin))
        found[n] = {"ratio": ratio, "lowest": lowest, "highest": highest}
    return found


def table(result: dict[str, Any], command: str) -> list[str]:
    """The measurement as Markdown."""
    losses = result["losses"]
    lines = [
        "# AdapterDrop: speed against score",
        "",
        f"{result['steps']} training steps on Python's language reference; the base has {losses['base'][0]:.3f} held-out"
        f" nats per token. {result['clock'].capitalize()} time: {result['rounds']} rounds, mean of the ratio within a round (one-sided 95 % bounds).",
        "",
        "| lowest blocks left out | 8 texts of 256 tokens are ... times as fast | a text of 32 tokens is ... times as fast | a training pass is ... times as fast | adapter_pfeiffer, nats | robust, nats | specialized, nats |",
        "|---|---|---|---|---|---|---|",
    ]
    for n in result["forward"]:
        speeds = [result[name][n] for name in PASSES_PER_TIME]
        cells = [f"{s['ratio']:.3f} ({s['lowest']:.3f} to {s['highest']:.3f})" for s in speeds]
        scores = [losses[name].get(n) for name in ("adapter_pfeiffer", "robust", "specialized")]
        shown = ["" if score is None else f"{score:.3f}" for score in scores]
        lines.append(f"| {n} | " + " | ".join([*cells, *shown]) + " |")
    return [*lines, "", *measure.machine_lines(result["machine"], command)]


def main(given: Sequence[str] | None = None) -> None:
    """Train, score, time, and write results/adapter_drop.json and .md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", type=Path, default=measure.ROOT / "assets" / "base")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    arguments = parser.parse_args(given)
    machine = measure.describe_machine(LIBRARIES, arguments.device)
    with measure.scratch_folder() as folder:
        losses = train_and_score(arguments.model, arguments.steps, Path(folder))
    times = time_passes(arguments.model, arguments.rounds, arguments.device)
    result = {
        "machine": machine,
        "settings": SETTINGS,
        "steps": arguments.steps,
        "rounds": arguments.rounds,
        "clock": "wall" if arguments.device == "cuda" else "processor",
        "losses": losses,
        **{name: speed_ups(seconds) for name, seconds in times.items()},
        "seconds": times,
    }
    command = f"python -m benchmarks.adapter_drop --rounds {arguments.rounds} --steps {arguments.steps} --device {arguments.device}"
    name = "adapter_drop" if arguments.device == "cpu" else "adapter_drop_cuda"
    measure.write_results(name, result, table(result, command))


if __name__ == "__main__":
    main()
