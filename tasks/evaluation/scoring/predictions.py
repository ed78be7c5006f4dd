"""What a model with a head answers: the label of each text, or the tag of each word, once per (documents, model)."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.errors import TrainingFailed, UserError
from schemas.spec.run import RunSpec
from tasks.data.labels.model_head import read_head, read_tasks
from tasks.data.model.folder import model_sha256
from tasks.data.tokens.tagged_words import NO_WORD
from tasks.evaluation.suites.items import BATCH_TOKENS, Item, OnProgress, Suite
from tasks.storage.code import code_version
from tasks.storage.reading import parse_json, read_stored
from tasks.storage.steps import Step, StepPlan, run_step
from tasks.training.models.load import load_for_tasks
from tasks.training.threads import on_threads

OUTSIDE = "O"

Answers = list[list[str]]
"""Of each document: its label, or the tag of each word."""


def predict_suites(
    root: Path,
    spec: RunSpec,
    suites: Sequence[Suite],
    model_folder: Path,
    on_progress: OnProgress | None = None,
) -> Step:
    """Answers of one model on every document of every suite, by name (`answers-N.json` per suite).

    Raises:
        UserError: the model cannot be loaded, or has no head for this objective.
        TrainingFailed: it answers with numbers that are not finite.
    """
    plan = StepPlan(
        root=root,
        name="score",
        inputs={
            "model": model_sha256(model_folder),
            **{f"suite {suite.name}": suite.key for suite in suites},
        },
        settings=[spec.training.sequence_length, spec.head_kind, [suite.task for suite in suites]],
        code=code_version(__name__),
    )

    def work(folder: Path) -> dict[str, Any]:
        from tasks.training.device import find_device

        device = find_device()
        outputs = [outputs_of(model_folder, suite.task) for suite in suites]
        model, use_task = load_for_tasks(model_folder, device.frozen_dtype, spec.head_kind)
        model.to(device.name)
        total = sum(len(item.input_ids) - 1 for suite in suites for item in suite.items)
        before = 0
        for number, suite in enumerate(suites):
            report = None if on_progress is None else (lambda done, b=before: on_progress(b + done, total))
            if suite.task is not None:
                use_task(suite.task)
            names, first = outputs[number]
            answers = answer(
                model, names, suite.items, spec.training.sequence_length, device.name, report, first=first
            )
            (folder / f"answers-{number}.json").write_text(json.dumps(answers, ensure_ascii=False))
            before += sum(len(item.input_ids) - 1 for item in suite.items)
        return {}

    return run_step(plan, on_threads(plan, work))


def outputs_of(folder: Path, task: str | None) -> tuple[tuple[str, ...], int]:
    """The labels that a model can give in a task, and the number of its output for the first.

    Raises:
        UserError: the model is not for this task.
    """
    head, tasks = read_head(folder), read_tasks(folder)
    names = () if head is None else head[1]
    known = {one.name: one for one in tasks}
    if task is None and not tasks:
        return names, 0
    if task not in known:
        wanted = "one task" if task is None else f"task {task}"
        has = f"its tasks are {', '.join(known)}" if known else "it has outputs for one task without a name"
        fix = "write the specification for the model's own tasks, or train under another name"
        raise UserError(f"the model has no outputs for {wanted}: {has}", str(folder), fix)
    return known[task].plain(names), known[task].start


def load_answers(step: Step, number: int) -> Answers:
    """Answers of one suite, in the order of its items."""
    answers: Answers = parse_json(read_stored(step.folder / f"answers-{number}.json"))
    return answers


def answer(
    model: Any,
    names: Sequence[str],
    items: Sequence[Item],
    max_length: int,
    device: str,
    on_progress: Callable[[int], None] | None = None,
    batch_tokens: int = BATCH_TOKENS,
    first: int = 0,
) -> Answers:
    """The likeliest label of each document, or tag of each word, among `names`, the outputs from number `first` on.

    A document longer than max_length is cut off as in training; words beyond, and words that the tokenizer drops, are
    answered with O. on_progress(done) counts ids.
    """
    import torch

    from tasks.training.batches.labelled import cut_off, pad_documents

    answers: Answers = [[] for _ in items]
    pad = int(model.config.pad_token_id)
    cut = [cut_off(item.input_ids, max_length, int(item.input_ids[-1])) for item in items]
    was_training = model.training
    model.train(False)
    done = 0
    try:
        with torch.inference_mode():
            for batch in _batches([len(ids) for ids in cut], batch_tokens):
                padded = pad_documents([(cut[index], 0) for index in batch], pad)
                ids, mask = padded["input_ids"].to(device), padded["attention_mask"].to(device)
                logits = model(input_ids=ids, attention_mask=mask).logits  # (B, L) or (B, T, L)
                if (
                    logits.dim() == 3
                ):  # methods that prepend virtual tokens tag them too: the text's own are the last
                    logits = logits[:, -ids.shape[1] :]
                logits = logits[..., first : first + len(names)]
                _require_finite(logits if logits.dim() == 2 else logits[mask.bool()])
                best = logits.argmax(dim=-1).cpu().numpy()  # (B,) or (B, T)
                for row, index in enumerate(batch):
                    answers[index] = _named(best[row], names, items[index], len(cut[index]))
                done += sum(len(items[index].input_ids) - 1 for index in batch)
                if on_progress is not None:
                    on_progress(done)
    finally:
        model.train(was_training)
    return answers


def _named(best: npt.NDArray[np.int64], names: Sequence[str], item: Item, length: int) -> list[str]:
    if item.words is None:
        return [names[int(best if best.ndim == 0 else best[length - 1])]]
    tags = [OUTSIDE] * len(item.gold)
    is_cut = length < len(item.words)
    for place in np.flatnonzero(item.words[: length - is_cut] != NO_WORD).tolist():
        tags[item.words[place]] = names[int(best[place])]
    return tags


def _batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Longest first: little padding, and a batch that does not fit in memory shows at once."""
    ordered = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    start = 0
    while start < len(ordered):
        rows = max(1, batch_tokens // lengths[ordered[start]])
        yield ordered[start : start + rows]
        start += rows


def _require_finite(logits: Any) -> None:
    import torch

    if not torch.isfinite(logits).all():
        raise TrainingFailed(
            "the model answers with numbers that are not finite",
            "scoring",
            "the weights are broken: lower training.learning_rate, or check the base model's files",
        )
