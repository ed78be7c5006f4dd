"""Put the method on the base: on trial before anything is scored, and to train."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from schemas.results.artifacts import MixtureReport
from schemas.spec.run import RunSpec
from tasks.data.model.loading import library_refusal
from tasks.training.batches.micro_batch import micro_batch_tokens
from tasks.training.inputs import TrainingInputs, open_dataset
from tasks.training.loop.head_start import load_at_start
from tasks.training.models.heads import require_length
from tasks.training.models.load import load_base
from tasks.training.models.quiet import quiet, silence_libraries
from tasks.training.models.soundness import require_positions
from tasks.training.step import training_plan


def require_method(root: Path, spec: RunSpec, inputs: TrainingInputs) -> None:
    """Put the method on the base once, so that what `train` would refuse is refused before anything is scored.

    Not if the training is finished or has begun: the method was on the base then. Random numbers stay as they are.

    Raises:
        UserError: see `attach`.
    """
    plan = training_plan(root, spec, inputs)
    if plan.finished(thorough=False) or plan.scratch.exists():
        return
    import torch

    from tasks.training.device import find_device

    devices = range(torch.cuda.device_count())
    fix = "choose another method (rootstock methods lists them) or another base"
    what = f"method {spec.method.kind} cannot be put on this base"
    with torch.random.fork_rng(devices), quiet(), library_refusal(what, inputs.base, fix):
        attach(spec, inputs, find_device(), trial=True)


def attach(spec: RunSpec, inputs: TrainingInputs, device: Any, trial: bool = False) -> Any:
    """Load the base and put the method on it, ready to train; return a methods.base.Tuned.

    `trial`: only for its refusals, so without what a method's start costs; the result is not to be used.

    Raises:
        UserError: the method cannot be put on this base, or packed documents would see each other in it.
    """
    import torch

    from tasks.training.batches.isolation import require_isolation
    from tasks.training.methods.base import TrainingContext
    from tasks.training.methods.registry import METHODS

    silence_libraries()
    entry, settings = METHODS[spec.method.kind], spec.method
    dtype = None if settings.changes_base else device.frozen_dtype
    base_settings = entry.base_settings(settings) if entry.base_settings else None
    new: tuple[str, ...] = ()
    if inputs.head is not None:
        loaded = load_at_start(spec, inputs, dtype, base_settings)
        model, new = loaded.model, loaded.new
        require_length(model, spec.training.sequence_length)
    else:
        model = load_base(inputs.base, dtype, base_settings)
        require_positions(model, spec.training.sequence_length)
    if settings.packs and inputs.head is None:
        require_isolation(model, spec.training.sequence_length)
    dataset, collate = open_dataset(spec, inputs)
    rows = micro_batch_tokens(spec) // spec.training.sequence_length

    def batches() -> Iterator[dict[str, Any]]:
        for start in range(0, len(dataset), rows):
            yield collate([dataset[i] for i in range(start, min(start + rows, len(dataset)))])

    torch.manual_seed(spec.training.seed)  # new weights of a method start the same in every attempt
    steps = MixtureReport.model_validate(inputs.plan.facts["report"]).steps
    length = spec.training.sequence_length
    names = tuple(task.name for task in inputs.head.head.tasks) if inputs.head else ()
    context = TrainingContext(
        inputs.base, steps, spec.training.seed, batches, new, sequence_length=length, tasks=names
    )
    if trial and entry.try_on is not None:
        return entry.try_on(model, settings, context)
    tuned = entry.attach(model, settings, context)
    tuned.model.config.use_cache = False
    if trial:
        _read_one_text(tuned.model, spec.training.sequence_length)
    return tuned


def _read_one_text(model: Any, length: int) -> None:
    """What a method does not bear of a base's architecture may show only when it computes."""
    import torch

    ids = torch.ones((1, min(8, length)), dtype=torch.int64, device=model.device)
    model.eval()
    with torch.inference_mode():
        model(input_ids=ids, attention_mask=torch.ones_like(ids))
