"""Train: one content-addressed step from (base, plan, method, training settings) to a model folder."""

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from schemas.artifacts import MixtureReport
from schemas.counts import Parameters
from schemas.errors import ExitCode, TrainingFailed
from schemas.run import RunSpec
from tasks.data.plan import labels_before_steps, load_plan
from tasks.data.prompts import Frame, write_frame
from tasks.data.tokenize import SpecialIds, TokenPart
from tasks.storage.hashing import code_version, sha256_value
from tasks.storage.steps import Step, StepPlan, run_step
from tasks.training.counts import count_parameters
from tasks.training.head_losses import loss_of
from tasks.training.heads import HeadInputs, load_with_head, require_length
from tasks.training.micro_batch import micro_batch_tokens
from tasks.training.models import TOKENIZER_FILES, load_base, model_sha256
from tasks.training.progress_file import OnMetrics
from tasks.training.remedies.base import RemedyContext
from tasks.training.schedules import NAMES, own_schedule, warmup_steps
from tasks.training.tuned import find_tuned, save_tuned

LIBRARIES = ("torch", "transformers", "peft", "accelerate")
NOT_TRAINED_ON = {"tokens", "epochs", "steps"}  # the plan has them


@dataclass(frozen=True)
class TrainingInputs:
    """Everything training reads."""

    base: Path
    reference: str
    """What an adapter's configuration names its base by."""
    plan: Step
    sources: Sequence[Sequence[TokenPart]]
    special: SpecialIds
    head: HeadInputs | None = None
    """None for language modelling."""
    frame: Frame | None = None
    """What stands around prompts, if there are any: deployed with the model."""


def training_plan(root: Path, spec: RunSpec, inputs: TrainingInputs) -> StepPlan:
    """Name the training step."""
    from tasks.training.remedies.applied import files_read

    models = {name: model_sha256(find_tuned(name)) for name in spec.method.folders()}
    return StepPlan(
        root=root,
        name="train",
        inputs={
            "plan": inputs.plan.key,
            "base": model_sha256(inputs.base),
            **(inputs.head.keys if inputs.head else {}),
            **({"frame": sha256_value(asdict(inputs.frame))} if inputs.frame else {}),
            **models,
            **files_read(spec, inputs.base),
        },
        settings=[
            spec.method.model_dump(mode="json"),
            None if spec.method.replaces_base else inputs.reference,
            spec.training.model_dump(exclude=NOT_TRAINED_ON),
            [remedy.model_dump(mode="json") for remedy in spec.remedies],
        ],
        code=code_version(("tasks/training",), LIBRARIES),
    )


def train(root: Path, spec: RunSpec, inputs: TrainingInputs, on_metrics: OnMetrics | None = None) -> Step:
    """Train, or go on from the last complete checkpoint, or return what is already trained.

    Raises:
        TrainingFailed: a loss or gradient was not finite, or the process was asked to stop.
    """
    plan = training_plan(root, spec, inputs)

    def work(folder: Path) -> dict[str, Any]:
        facts = _train_into(folder, plan.scratch, RemedyContext(root, spec, inputs), on_metrics)
        return {**facts, "weights": model_sha256(folder / "model")}

    step = run_step(plan, work)
    shutil.rmtree(plan.scratch, ignore_errors=True)
    return step


def _train_into(
    folder: Path, scratch: Path, context: RemedyContext, on_metrics: OnMetrics | None
) -> dict[str, Any]:
    from tasks.training.device import find_device
    from tasks.training.remedies.applied import attach_remedies, prepare_remedies

    spec, inputs = context.spec, context.inputs
    _silence_libraries()
    device = find_device()
    prepared = prepare_remedies(context)
    tuned = attach(spec, inputs, device)
    remedies = attach_remedies(tuned, context, prepared)
    trainer, stop = _make_trainer(tuned, scratch, spec, inputs, device, on_metrics, remedies)
    resume = _resume_from(scratch)
    try:
        with _quiet():
            trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    finally:
        stop.give_back()
    if stop.asked and trainer.state.global_step < trainer.state.max_steps:
        failure = TrainingFailed(
            "training was asked to stop; a checkpoint was written",
            f"step {trainer.state.global_step}",
            "run the same command again to go on",
        )
        failure.exit_code = ExitCode.TERMINATED
        raise failure
    shutil.copy(scratch / "metrics.jsonl", folder / "metrics.jsonl")
    remedies.finish()
    tuned.finish()
    parameters = _save(tuned, folder / "model", spec, inputs)
    remedies.save(folder / "model")
    return {"parameters": parameters.model_dump(), "method": tuned.facts(), "remedies": remedies.facts()}


def require_method(root: Path, spec: RunSpec, inputs: TrainingInputs) -> None:
    """Put the method on the base once, so that what `train` would refuse is refused before anything is scored.

    Not if the training is finished or has begun: the method was on the base then. Random numbers stay as they are.

    Raises:
        UserError: see `attach`.
    """
    plan = training_plan(root, spec, inputs)
    if plan.finished() or plan.scratch.exists():
        return
    import torch

    from tasks.training.device import find_device

    devices = range(torch.cuda.device_count())
    with torch.random.fork_rng(devices), _quiet():
        attach(spec, inputs, find_device(), trial=True)


def attach(spec: RunSpec, inputs: TrainingInputs, device: Any, trial: bool = False) -> Any:
    """Load the base and put the method on it, ready to train; return a methods.base.Tuned.

    `trial`: only for its refusals, so without what a method's start costs; the result is not to be used.

    Raises:
        UserError: the method cannot be put on this base, or packed documents would see each other in it.
    """
    import torch

    from tasks.training.isolation import require_isolation
    from tasks.training.methods.base import TrainingContext
    from tasks.training.methods.registry import METHODS

    _silence_libraries()
    entry, settings = METHODS[spec.method.kind], spec.method
    dtype = None if settings.changes_base else device.frozen_dtype
    base_settings = entry.base_settings(settings) if entry.base_settings else None
    new: tuple[str, ...] = ()
    if inputs.head is not None:
        loaded = load_with_head(inputs.base, inputs.head.head, dtype, spec.training.seed, base_settings)
        model, new = loaded.model, loaded.new
        require_length(model, spec.training.sequence_length)
    else:
        model = load_base(inputs.base, dtype, base_settings)
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
    return tuned


def open_dataset(spec: RunSpec, inputs: TrainingInputs, numbered: bool = False) -> tuple[Any, Any]:
    """The plan's sequences, packed or (where method or head need it) apart, and what collates them.

    `numbered`: batches say from which place of the plan each position is, as remedies need it that look at outputs.
    """
    from tasks.training.dataset import PackedSequences, SeparateDocuments, collate, collate_apart

    pieces, sequences = load_plan(inputs.plan)
    if inputs.head is not None:
        from tasks.training.labelled import LabelledDocuments, collate_labelled

        of_words = inputs.head.head.kind == "token_classification"
        labelled = LabelledDocuments(
            pieces, sequences, inputs.sources, inputs.head.labels, inputs.special, of_words, numbered
        )
        return labelled, collate_labelled
    kind, together = (PackedSequences, collate) if spec.method.packs else (SeparateDocuments, collate_apart)
    return kind(
        pieces, sequences, inputs.sources, spec.training.sequence_length, inputs.special.pad, numbered
    ), together


def _resume_from(scratch: Path) -> Path | None:
    from tasks.training.checkpoints import latest

    return latest(scratch / "checkpoints")


def _silence_libraries() -> None:
    import logging

    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # PEFT asks for it, wanted or not


@contextlib.contextmanager
def _quiet() -> Any:
    """Keep transformers' own notes out of the progress; errors still raise."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _make_trainer(
    tuned: Any,
    scratch: Path,
    spec: RunSpec,
    inputs: TrainingInputs,
    device: Any,
    on_metrics: OnMetrics | None,
    remedies: Any = None,
) -> tuple[Any, Any]:
    from transformers import TrainingArguments

    from tasks.training.head_trainer import HeadTrainer
    from tasks.training.progress import MetricsWriter, StopOnSigterm
    from tasks.training.remedies.applied import Applied
    from tasks.training.trainer import ResumableTrainer

    training = spec.training
    pieces, sequences = load_plan(inputs.plan)
    report = MixtureReport.model_validate(inputs.plan.facts["report"])
    remedies = remedies or Applied({})
    dataset, collate = open_dataset(spec, inputs, remedies.reads_outputs)
    micro = micro_batch_tokens(spec)
    arguments = TrainingArguments(
        output_dir=str(scratch / "unused"),
        per_device_train_batch_size=micro // training.sequence_length,
        gradient_accumulation_steps=training.batch_tokens // micro,
        num_train_epochs=1,
        learning_rate=training.learning_rate,
        lr_scheduler_type=NAMES.get(training.schedule, "constant"),
        warmup_steps=warmup_steps(training, report.steps),
        weight_decay=training.weight_decay,
        adam_beta2=training.adam_beta2,
        max_grad_norm=training.max_grad_norm,
        optim="adamw_torch_fused",
        seed=training.seed,
        bf16=device.autocast,
        activation_checkpointing=training.gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False} if training.gradient_checkpointing else None,
        use_cpu=device.name == "cpu",
        save_strategy="steps",
        save_steps=training.checkpoint_every,
        logging_strategy="steps",
        logging_steps=max(1, report.steps // 200),
        logging_nan_inf_filter=False,
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_num_workers=0,
        dataloader_pin_memory=device.name == "cuda",
        train_sampling_strategy="sequential",
    )
    (scratch / "checkpoints").mkdir(parents=True, exist_ok=True)
    labels = labels_before_steps(pieces, sequences, report.sequences_per_step)
    stop = StopOnSigterm()
    writer = MetricsWriter(scratch / "metrics.jsonl", device, labels, on_metrics)
    kind = ResumableTrainer if inputs.head is None else HeadTrainer
    trainer = kind(
        model=tuned.model,
        args=arguments,
        train_dataset=dataset,
        data_collator=collate,
        compute_loss_func=loss_of(inputs.head, dataset) if inputs.head is not None else None,
        callbacks=[*tuned.callbacks(), *remedies.callbacks(), writer, stop],
    )
    trainer.tuned, trainer.remedies = tuned, remedies
    trainer.positions = micro
    if isinstance(trainer, HeadTrainer) and inputs.head is not None and tuned.tasks:
        trainer.tasks = inputs.head.head.tasks
    trainer.schedule = own_schedule(training, report.steps)
    trainer.checkpoint_folder = scratch / "checkpoints"
    for name in ("PrinterCallback", "ProgressCallback"):
        for callback in [c for c in trainer.callback_handler.callbacks if type(c).__name__ == name]:
            trainer.remove_callback(callback)
    return trainer, stop


def _save(tuned: Any, folder: Path, spec: RunSpec, inputs: TrainingInputs) -> Parameters:
    """Write what is deployed: weights (or what stands beside the base's), configuration and tokenizer."""
    tuned.model.config.use_cache = True
    save_tuned(tuned, folder, spec.method, inputs.reference, model_sha256(inputs.base))
    if inputs.head is not None:  # an adapter has no configuration of its own, and the labels belong to it
        config = tuned.model.config
        config.architectures = [type(_plain(tuned.model)).__name__]
        config.save_pretrained(folder)
    if inputs.frame is not None:
        write_frame(inputs.frame, folder)
    for name in (*TOKENIZER_FILES, "generation_config.json"):
        if (inputs.base / name).is_file() and not (folder / name).is_file():
            shutil.copy(inputs.base / name, folder / name)
    before = None
    if inputs.head is not None:
        before = load_with_head(inputs.base, inputs.head.head, None, spec.training.seed).model
    return count_parameters(tuned.model, inputs.base, folder, before)


def _plain(model: Any) -> Any:
    """The transformers model inside a PeftModel."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
