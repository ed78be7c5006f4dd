"""metrics.jsonl is whole after any kill, and a resumed run continues it where its checkpoint stands."""

from pathlib import Path

from schemas.results.artifacts import StepMetrics
from tasks.training.loop.progress_file import read_metrics


def metrics(step: int) -> StepMetrics:
    return StepMetrics(
        step=step, loss=1.0, learning_rate=0.1, grad_norm=1.0, tokens_per_second=1.0, peak_memory_bytes=1, seconds=1.0
    )  # fmt: skip


def write(file: Path, *steps: int, torn: str = "") -> None:
    file.write_text("".join(metrics(step).model_dump_json() + "\n" for step in steps) + torn)


def test_a_line_torn_by_a_kill_is_left_out(tmp_path):
    file = tmp_path / "metrics.jsonl"
    assert read_metrics(file) == []
    write(file, 1, 2, torn=metrics(3).model_dump_json()[:40])
    assert [line.step for line in read_metrics(file)] == [1, 2]
    write(file, 1, 2, torn=metrics(3).model_dump_json())
    assert [line.step for line in read_metrics(file)] == [1, 2], "without its line end it may be torn"


def test_a_resumed_run_drops_the_lines_after_its_checkpoint_and_keeps_the_rest(tmp_path):
    from transformers import TrainerControl, TrainerState

    from tasks.training.device import find_device
    from tasks.training.loop.progress import MetricsWriter

    file = tmp_path / "metrics.jsonl"
    write(file, 1, 2, 3, 4, torn='{"step": 5')
    MetricsWriter(file, find_device(), labels_of(10), None).on_train_begin(
        None, TrainerState(global_step=3, max_steps=10), TrainerControl()
    )
    assert [line.step for line in read_metrics(file)] == [1, 2, 3]


def labels_of(steps: int):
    """Label tokens before each step: ten a step."""
    import numpy as np

    return np.arange(steps + 1) * 10


def test_tokens_per_second_count_label_tokens(tmp_path):
    import time

    from transformers import TrainerControl, TrainerState

    from tasks.training.device import find_device
    from tasks.training.loop.progress import MetricsWriter

    seen: list[StepMetrics] = []
    writer = MetricsWriter(
        tmp_path / "metrics.jsonl", find_device(), labels_of(10), lambda m, total: seen.append(m)
    )
    state = TrainerState(global_step=0, max_steps=10)
    writer.on_train_begin(None, state, TrainerControl())
    time.sleep(0.1)
    state.global_step = 4
    writer.on_log(None, state, TrainerControl(), logs={"loss": 1.0, "learning_rate": 0.1, "grad_norm": 1.0})
    assert 40 / 0.5 < seen[0].tokens_per_second <= 40 / 0.1
    writer.on_log(None, state, TrainerControl(), logs={"train_runtime": 3.0})
    assert len(seen) == len(read_metrics(tmp_path / "metrics.jsonl")) == 1


def test_a_resumed_run_counts_the_seconds_that_were_spent_before(tmp_path):
    from transformers import TrainerControl, TrainerState

    from tasks.training.device import find_device
    from tasks.training.loop.progress import SECONDS, MetricsWriter

    file, seen = tmp_path / "metrics.jsonl", []

    def resumed(at: int) -> float:
        """The seconds of the first line after going on from the checkpoint at this step."""
        writer = MetricsWriter(file, find_device(), labels_of(10), lambda m, total: seen.append(m))
        state = TrainerState(global_step=at, max_steps=10)
        writer.on_train_begin(None, state, TrainerControl())
        state.global_step = at + 1
        logs = {"loss": 1.0, "learning_rate": 0.1, "grad_norm": 1.0}
        writer.on_log(None, state, TrainerControl(), logs=logs)
        writer.on_save(None, state, TrainerControl())
        return seen[-1].seconds

    lines = [metrics(step).model_copy(update={"seconds": 100.0 * step}) for step in (1, 2, 3)]
    file.write_text("".join(line.model_dump_json() + "\n" for line in lines))
    assert 200 <= resumed(at=2) < 290, "the third line was of work that is lost"
    assert read_metrics(file)[-1].seconds < 290
    (tmp_path / SECONDS).write_text('{"step": 3, "seconds": 5000}')
    assert 5000 <= resumed(at=3) < 5090, "the checkpoint knows more than the last line"
    assert 5000 <= resumed(at=4) < 5090, "what one process wrote, the next goes on from"
    (tmp_path / SECONDS).write_text("torn")
    assert resumed(at=5) >= 5000
