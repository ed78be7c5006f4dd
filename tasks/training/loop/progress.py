"""What a training run says while it runs: metrics.jsonl, a live line, and a clean stop when a signal asks for it."""

import json
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from transformers import TrainerCallback

from schemas.results.artifacts import StepMetrics
from tasks.storage.atomic import write_atomic
from tasks.storage.reading import parse_json, read_stored
from tasks.storage.signals import leave_lost_terminal, say, take_signals, told
from tasks.training.device import Device, peak_memory_bytes
from tasks.training.loop.progress_file import OnMetrics, read_metrics

SECONDS = "seconds.json"
"""Beside metrics.jsonl: how long training took to its last checkpoint; not every step has a line of metrics."""


def seconds_at(folder: Path, step: int) -> float:
    """Seconds that training took to the checkpoint of this step; 0 if that is not known."""
    try:
        spent = parse_json(read_stored(folder / SECONDS))
        return float(spent["seconds"]) if spent["step"] == step else 0.0
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0


class MetricsWriter(TrainerCallback):
    """Append one line of metrics per log to a file; a resumed run continues where its checkpoint stands.

    Seconds are of training, over all processes that took part, without what was lost after the checkpoint.
    """

    def __init__(
        self, file: Path, device: Device, labels: npt.NDArray[np.int64], on_metrics: OnMetrics | None
    ):
        """`labels` are the label tokens before each step, and in all: (steps + 1,)."""
        self.file, self.device, self.labels, self.on_metrics = file, device, labels, on_metrics

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.last_time = time.monotonic()
        self.last_step = state.global_step
        keep = [m for m in read_metrics(self.file) if m.step <= state.global_step]
        logged = keep[-1].seconds if keep else 0.0
        self.started = self.last_time - max(logged, seconds_at(self.file.parent, state.global_step))
        write_atomic(self.file, "".join(m.model_dump_json() + "\n" for m in keep))

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        spent = {"step": state.global_step, "seconds": time.monotonic() - self.started}
        write_atomic(self.file.parent / SECONDS, json.dumps(spent))

    def on_log(self, args: Any, state: Any, control: Any, **event: Any) -> None:
        logs: dict[str, Any] = event["logs"]
        if "loss" not in logs:
            return
        now = time.monotonic()
        labels = int(self.labels[state.global_step] - self.labels[self.last_step])
        metrics = StepMetrics(
            step=state.global_step,
            loss=logs["loss"],
            learning_rate=logs["learning_rate"],
            grad_norm=logs["grad_norm"],
            tokens_per_second=labels / max(now - self.last_time, 1e-9),
            peak_memory_bytes=peak_memory_bytes(self.device),
            seconds=now - self.started,
        )
        self.last_step, self.last_time = state.global_step, now
        with self.file.open("a") as file:
            file.write(metrics.model_dump_json() + "\n")
        if self.on_metrics:
            self.on_metrics(metrics, state.max_steps)


class StopOnSignal(TrainerCallback):
    """On SIGTERM, Ctrl-C or a closed terminal finish the step, write a checkpoint and stop; on a second one at once."""

    def __init__(self) -> None:
        self.asked: int | None = None
        """The signal, once one has come."""
        self.before: dict[int, Any] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        import threading

        if threading.current_thread() is threading.main_thread():
            self.before = take_signals(self._ask)

    def _ask(self, number: int, frame: Any) -> None:
        leave_lost_terminal()
        if self.asked is not None:
            self.give_back()
            signal.raise_signal(number)
            return
        self.asked = number
        say(f"{told(number)}: this step is finished and a checkpoint written (again: stop at once)")

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.asked is not None:
            control.should_save = control.should_training_stop = True

    def give_back(self) -> None:
        """Let signals do again what they did before: also after a failure, or nothing could end the process."""
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before = {}
