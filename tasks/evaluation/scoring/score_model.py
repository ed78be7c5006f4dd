"""Score a model on suites: one step, named by both."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from schemas.results.scores import AnySuite, ItemScore, Scores, SuiteScores, Unit, Who
from schemas.spec.run import RunSpec
from tasks.data.model.folder import model_sha256
from tasks.data.model.loading import library_refusal
from tasks.evaluation.scoring.answers import answer_suite, assemble_answers
from tasks.evaluation.scoring.predictions import predict_suites
from tasks.evaluation.suites.items import BATCH_TOKENS, OnProgress, Suite
from tasks.evaluation.verdict.floor import unigram_floor
from tasks.storage.code import code_version
from tasks.storage.steps import Step, StepPlan, run_step
from tasks.training.models.load import load_model
from tasks.training.models.soundness import require_positions
from tasks.training.threads import on_threads

_FIX = "check its config.json and its method's settings, or name another model"


def score_model(
    root: Path,
    spec: RunSpec,
    suites: Sequence[Suite],
    model_folder: Path,
    on_progress: OnProgress | None = None,
) -> Step:
    """Score every document of every suite under one model: its summed loss (`nats-N.npy` per suite).

    A model with a head gives labels instead: see `predictions.predict_suites`. Where answers are scored, those of suites
    that have them are generated: see `answers.answer_suite`.
    """
    if spec.objective.new_head:
        return predict_suites(root, spec, suites, model_folder, on_progress)
    most = spec.objective.answer_tokens
    plan = StepPlan(
        root=root,
        name="score",
        inputs={
            "model": model_sha256(model_folder),
            **{f"suite {suite.name}": suite.key for suite in suites},
        },
        settings=[spec.training.sequence_length, most],
        code=code_version(__name__),
    )

    def work(folder: Path) -> dict[str, Any]:
        from tasks.evaluation.scoring.loss import score_documents
        from tasks.training.device import find_device

        device = find_device()
        model = load_model(model_folder, device.frozen_dtype, "language_modeling").to(device.name)
        require_positions(model, spec.training.sequence_length)
        total = sum(item.labels for suite in suites for item in suite.items)
        before = 0
        for number, suite in enumerate(suites):
            report = _from(before, total, on_progress)
            with library_refusal("the model cannot be scored", model_folder, _FIX):
                if suite.is_answered:
                    assert most is not None
                    answers = answer_suite(model, model_folder, suite.items, most, report)
                    (folder / f"answers-{number}.json").write_text(json.dumps(answers, ensure_ascii=False))
                else:
                    nats = score_documents(
                        model,
                        [item.input_ids for item in suite.items],
                        spec.training.sequence_length,
                        BATCH_TOKENS,
                        device.name,
                        report,
                        [item.context for item in suite.items],
                    )
                    np.save(folder / f"nats-{number}.npy", nats)
            before += sum(item.labels for item in suite.items)
        return {}

    return run_step(plan, on_threads(plan, work))


def _from(before: int, total: int, on_progress: OnProgress | None) -> OnProgress | None:
    """Progress of one suite as that of all: `before` label tokens were done when it began."""
    return None if on_progress is None else lambda done, _: on_progress(before + done, total)


def assemble_scores(suites: Sequence[Suite], steps: Mapping[Who, Step], vocab_size: int) -> Scores:
    """Put the losses of all models side by side, item by item."""
    assembled: list[AnySuite] = []
    for number, suite in enumerate(suites):
        if suite.is_answered:
            assembled.append(assemble_answers(suite, number, steps))
            continue
        nats = {who: np.load(step.folder / f"nats-{number}.npy").tolist() for who, step in steps.items()}
        items = tuple(
            ItemScore(
                id=item.id,
                group=item.group,
                tokens=item.labels,
                bytes=item.bytes,
                nats={who: values[index] for who, values in nats.items()},
            )
            for index, item in enumerate(suite.items)
        )
        floor = unigram_floor([item.input_ids[item.context - 1 :] for item in suite.items], vocab_size)
        assembled.append(SuiteScores(name=suite.name, kind=suite.kind, floor=floor, items=items))
    unit: Unit = "exact match" if suites[0].is_answered else "nats per token"
    return Scores(unit=unit, suites=tuple(assembled))
