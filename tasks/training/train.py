"""Train: one content-addressed step from (base, plan, method, training settings) to a model folder."""

import shutil
from pathlib import Path
from typing import Any

from schemas.errors import ExitCode, TrainingFailed
from schemas.results.artifacts import MixtureReport
from schemas.results.counts import Parameters
from schemas.spec.run import RunSpec
from tasks.data.model.folder import TOKENIZER_FILES, model_sha256
from tasks.data.plan.plan import labels_before_steps, load_plan
from tasks.data.tokens.prompts import write_frame
from tasks.storage.signals import exit_code
from tasks.storage.steps import Step, run_step
from tasks.training.attach import attach
from tasks.training.batches.micro_batch import micro_batch_tokens
from tasks.training.inputs import TrainingInputs, open_dataset
from tasks.training.loop.head_losses import loss_of
from tasks.training.loop.head_start import load_at_start
from tasks.training.loop.progress_file import OnMetrics
from tasks.training.models.counts import count_parameters
from tasks.training.models.quiet import quiet, silence_libraries
from tasks.training.models.tuned_files import save_tuned
from tasks.training.remedies.base import RemedyContext
from tasks.training.schedules import NAMES, own_schedule, warmup_steps
from tasks.training.step import training_plan
from tasks.training.threads import on_threads


def train(root: Path, spec: RunSpec, inputs: TrainingInputs, on_metrics: OnMetrics | None = None) -> Step:
    """Train, or go on from the last complete checkpoint, or return what is already trained.

    Raises:
        TrainingFailed: a loss or gradient was not finite, or the process was asked to stop.
    """
    plan = training_plan(root, spec, inputs)
    asked: int | None = None

    def work(folder: Path) -> dict[str, Any]:
        nonlocal asked
        facts, asked = _train_into(folder, plan.scratch, RemedyContext(root, spec, inputs), on_metrics)
        return {**facts, "weights": model_sha256(folder / "model")}

    step = run_step(plan, on_threads(plan, work, resumes=True))
    shutil.rmtree(plan.scratch, ignore_errors=True)
    if asked is not None:  # in its last step: what is trained is kept, nothing that follows is begun
        raise _stopped("training was asked to stop; it is finished and kept", "its last step", asked)
    return step


def _stopped(what: str, where: str, number: int) -> TrainingFailed:
    failure = TrainingFailed(what, where, "run the same command again to go on")
    failure.exit_code = ExitCode(exit_code(number))
    return failure


def _train_into(
    folder: Path, scratch: Path, context: RemedyContext, on_metrics: OnMetrics | None
) -> tuple[dict[str, Any], int | None]:
    """Facts of the trained model, and the signal that asked to stop, if one came in the last step."""
    from tasks.training.device import find_device
    from tasks.training.remedies.applied import attach_remedies, prepare_remedies

    spec, inputs = context.spec, context.inputs
    silence_libraries()
    device = find_device()
    prepared = prepare_remedies(context)
    tuned = attach(spec, inputs, device)
    remedies = attach_remedies(tuned, context, prepared)
    trainer, stop = _make_trainer(tuned, scratch, spec, inputs, device, on_metrics, remedies)
    resume = _resume_from(scratch)
    try:
        with quiet():
            trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    finally:
        stop.give_back()
    if stop.asked is not None and trainer.state.global_step < trainer.state.max_steps:
        where = f"step {trainer.state.global_step}"
        raise _stopped("training was asked to stop; a checkpoint was written", where, stop.asked)
    shutil.copy(scratch / "metrics.jsonl", folder / "metrics.jsonl")
    remedies.finish()
    tuned.finish()
    parameters = _save(tuned, folder / "model", spec, inputs)
    remedies.save(folder / "model")
    facts = {"parameters": parameters.model_dump(), "method": tuned.facts(), "remedies": remedies.facts()}
    return facts, stop.asked


def _resume_from(scratch: Path) -> Path | None:
    from tasks.training.loop.checkpoints import latest

    return latest(scratch / "checkpoints")


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

    from tasks.training.loop.head_trainer import HeadTrainer
    from tasks.training.loop.progress import MetricsWriter, StopOnSignal
    from tasks.training.loop.trainer import ResumableTrainer
    from tasks.training.remedies.applied import Applied

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
    stop = StopOnSignal()
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
        before = load_at_start(spec, inputs, None).model
    return count_parameters(tuned.model, inputs.base, folder, before)


def _plain(model: Any) -> Any:
    """The transformers model inside a PeftModel."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
