"""Training: it learns, it resumes to the same weights from any kill, and no NaN ever reaches a checkpoint."""

import math
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from schemas.errors import ExitCode, TrainingFailed
from tasks.data.plan.plan import load_plan
from tasks.storage.steps import Step
from tasks.training.batches.packed import PackedSequences, collate
from tasks.training.loop.checkpoints import list_checkpoints, verify
from tasks.training.loop.progress_file import read_metrics
from tasks.training.models.load import load_model
from tasks.training.step import training_plan
from tests.training.prepared import prepare_inputs, spec_of, train_here

LORA = {"kind": "lora", "r": 4, "alpha": 8, "dropout": 0.1}
METHODS = {"full": ({"kind": "full"}, 0.01), "lora": (LORA, 0.3)}  # settings, learning rate


@pytest.fixture(scope="session", params=METHODS)
def run(request, root, base, tmp_path_factory):
    """(specification, the undisturbed training step)."""
    method, rate = METHODS[request.param]
    spec = spec_of(root, base, method=method, training={"micro_batch_tokens": 64, "learning_rate": rate})
    return spec, train_here(root, spec, tmp_path_factory.mktemp("undisturbed"))


def weights(step: Step) -> dict[str, torch.Tensor]:
    (file,) = (step.folder / "model").glob("*.safetensors")
    return load_file(file)


def scratch_of(root: Path, spec, state: Path) -> Path:
    return training_plan(state, spec, prepare_inputs(root, spec)).scratch


def wait_for(condition, process, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.is_alive(), f"the process ended with {process.exitcode} before the moment came"
        assert time.monotonic() < deadline, "the moment did not come"
        time.sleep(0.001)


def reached(scratch: Path, step: int):
    def condition() -> bool:
        metrics = read_metrics(scratch / "metrics.jsonl")
        return bool(metrics) and metrics[-1].step >= step

    return condition


def writing(scratch: Path, after: int):
    """A checkpoint is being written, and step `after` is done."""
    folder = scratch / "checkpoints" / ".writing"

    def condition() -> bool:
        try:
            return reached(scratch, after)() and any(folder.rglob("*.safetensors"))
        except FileNotFoundError:  # it was renamed while we looked
            return False

    return condition


def finish(start, spec, state: Path) -> None:
    process = start(spec, state)
    process.join(180)
    assert process.exitcode == 0


def trained(root: Path, spec, state: Path) -> Step:
    step = training_plan(state, spec, prepare_inputs(root, spec)).finished()
    assert step is not None
    return step


def loss_of_first_step(spec, inputs, model: Path) -> float:
    """Nats per label token of the first step's batch."""
    dataset = PackedSequences(*load_plan(inputs.plan), inputs.sources, 32, inputs.special.pad)
    with torch.inference_mode():
        return float(load_model(model)(**collate([dataset[k] for k in range(4)]), use_cache=False).loss)


def test_loss_falls_and_every_step_is_logged(run, root):
    spec, step = run
    inputs = prepare_inputs(root, spec)
    metrics = read_metrics(step.folder / "metrics.jsonl")
    assert [line.step for line in metrics] == list(range(1, 25))
    assert abs(metrics[0].loss - math.log(1024)) < 0.2, "random weights start near the uniform distribution"
    after = loss_of_first_step(spec, inputs, step.folder / "model")
    assert metrics[0].loss == pytest.approx(loss_of_first_step(spec, inputs, inputs.base), rel=1e-5)
    assert after < metrics[0].loss - {"full": 0.5, "lora": 0.0}[spec.method.kind]
    assert all(line.tokens_per_second > 0 and line.peak_memory_bytes > 2**20 for line in metrics)


def test_a_finished_training_is_a_no_op_and_leaves_no_checkpoints(run, root):
    spec, step = run
    state = step.folder.parent.parent
    assert train_here(root, spec, state) == step
    assert not scratch_of(root, spec, state).exists()


def test_the_same_inputs_and_seed_give_the_same_weights(run, start, root, tmp_path):
    spec, step = run
    finish(start, spec, tmp_path)
    assert trained(root, spec, tmp_path).facts["weights"] == step.facts["weights"]


def kill_at(moment, start, spec, state: Path, with_signal=signal.SIGKILL) -> int:
    process = start(spec, state)
    wait_for(moment, process)
    os.kill(process.pid, with_signal)
    process.join(60)
    return process.exitcode


@pytest.mark.slow
def test_killed_again_and_again_the_weights_are_those_of_the_undisturbed_run(run, start, root, tmp_path):
    spec, step = run
    scratch = scratch_of(root, spec, tmp_path)
    moments = [
        reached(scratch, 2),  # before the first checkpoint
        writing(scratch, 4),  # inside the first checkpoint
        reached(scratch, 8),
        writing(scratch, 9),
        lambda: bool(list_checkpoints(scratch / "checkpoints")[1:]),  # just published
        reached(scratch, 19),
        reached(scratch, 24),  # at the end: the model is about to be written
    ]
    for moment in moments:
        assert kill_at(moment, start, spec, tmp_path) == -signal.SIGKILL
        assert all(verify(folder) for folder in list_checkpoints(scratch / "checkpoints"))
        assert not training_plan(tmp_path, spec, prepare_inputs(root, spec)).finished()
    finish(start, spec, tmp_path)
    assert trained(root, spec, tmp_path).facts["weights"] == step.facts["weights"]
    metrics = read_metrics(trained(root, spec, tmp_path).folder / "metrics.jsonl")
    undisturbed = read_metrics(step.folder / "metrics.jsonl")
    assert [(m.step, m.loss) for m in metrics] == [(m.step, m.loss) for m in undisturbed]


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.05, 0.4, 1.1])
def test_killed_at_any_time_the_weights_are_those_of_the_undisturbed_run(run, start, root, tmp_path, delay):
    spec, step = run
    scratch = scratch_of(root, spec, tmp_path)
    process = start(spec, tmp_path)
    wait_for(lambda: scratch.exists() or not process.is_alive(), process)
    time.sleep(delay)
    process.kill()
    process.join(60)
    finish(start, spec, tmp_path)
    assert trained(root, spec, tmp_path).facts["weights"] == step.facts["weights"]


def test_sigterm_writes_a_checkpoint_and_the_next_start_goes_on_from_it_with_as_many_threads(
    run, start, root, tmp_path
):
    spec, step = run
    scratch = scratch_of(root, spec, tmp_path)
    code = kill_at(reached(scratch, 7), start, spec, tmp_path, signal.SIGTERM)
    assert code == ExitCode.TERMINATED == 143
    stopped = read_metrics(scratch / "metrics.jsonl")[-1].step
    last = list_checkpoints(scratch / "checkpoints")[-1]
    assert last.name == f"step-{stopped}"
    assert stopped < 24
    own = torch.get_num_threads()
    torch.set_num_threads(own + 1)  # as on a machine with another number of processors
    try:
        resumed = train_here(root, spec, tmp_path)
        assert torch.get_num_threads() == own + 1
    finally:
        torch.set_num_threads(own)
    assert resumed.facts["weights"] == step.facts["weights"]
    assert resumed.facts["threads"] == step.facts["threads"] == 1, "it goes on as it began"


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("pattern", ["*.safetensors", "optimizer.pt", "trainer_state.json", "sha256.json"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(run, start, root, tmp_path, pattern):
    spec, step = run
    checkpoints = scratch_of(root, spec, tmp_path) / "checkpoints"
    kill_at(lambda: (checkpoints / "step-15").is_dir(), start, spec, tmp_path)
    (damaged,) = list_checkpoints(checkpoints)[-1].glob(pattern)
    flip(damaged)
    finish(start, spec, tmp_path)
    assert trained(root, spec, tmp_path).facts["weights"] == step.facts["weights"]


def test_at_most_two_checkpoints_are_kept(root, base, tmp_path):
    spec = spec_of(root, base, training={"checkpoint_every": 2})
    folder = scratch_of(root, spec, tmp_path) / "checkpoints"
    seen: list[list[str]] = []
    train_here(
        root, spec, tmp_path, lambda metrics, total: seen.append([p.name for p in list_checkpoints(folder)])
    )
    assert max(map(len, seen)) == 2
    assert seen[-1] == ["step-20", "step-22"]


def test_a_loss_that_is_not_a_number_stops_and_no_checkpoint_holds_one(root, base, tmp_path, monkeypatch):
    """Adam's update is as large as the learning rate, whatever the gradient: 1e18 makes the next loss overflow."""
    spec = spec_of(root, base, training={"checkpoint_every": 1, "schedule": "constant", "warmup_ratio": 0})
    wild = spec.model_copy(update={"training": spec.training.model_copy(update={"learning_rate": 1e30})})
    with pytest.raises(TrainingFailed, match="became NaN or infinite") as error:
        train_here(root, wild, tmp_path)
    assert error.value.exit_code == ExitCode.TRAINING_FAILED == 3
    assert error.value.where.startswith("training step ")
    assert "learning_rate" in error.value.fix
    scratch = scratch_of(root, wild, tmp_path)
    for checkpoint in list_checkpoints(scratch / "checkpoints"):
        (file,) = checkpoint.glob("*.safetensors")
        assert all(torch.isfinite(tensor).all() for tensor in load_file(file).values())
    assert not training_plan(tmp_path, wild, prepare_inputs(root, wild)).finished()


def test_broken_weights_stop_at_their_first_loss(root, base, tmp_path):
    folder = shutil.copytree(base, tmp_path / "broken")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][3] = 3e38  # a number, but nothing can be added to it
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(TrainingFailed, match="the loss became NaN or infinite") as error:
        train_here(root, spec_of(root, folder), tmp_path)
    assert error.value.where == "training step 1"


def test_a_failed_training_gives_sigterm_back(root, base, tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    spec = spec_of(root, base, training={"schedule": "constant", "warmup_ratio": 0})
    wild = spec.model_copy(update={"training": spec.training.model_copy(update={"learning_rate": 1e30})})
    with pytest.raises(TrainingFailed):
        train_here(root, wild, tmp_path)
    assert signal.getsignal(signal.SIGTERM) is before


def test_parameters_are_counted_as_they_are(run):
    spec, step = run
    counted = step.facts["parameters"]
    stored = sum(tensor.numel() for tensor in weights(step).values())
    assert counted["trainable"] == stored
    assert counted["total"] == (stored if spec.method.kind == "full" else counted["total"])
    assert counted["total"] > counted["trainable"] or spec.method.kind == "full"
