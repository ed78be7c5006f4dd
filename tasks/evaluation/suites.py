"""Suites: which documents are scored, and their losses under each model, once per (documents, model)."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from schemas.errors import NoNewData, UserError
from schemas.results.scores import AnySuite, ItemScore, Scores, SuiteScores, Unit, Who
from schemas.spec.increments import past_suite
from schemas.spec.run import RunSpec
from tasks.data.model.folder import model_sha256
from tasks.data.model.loading import library_refusal
from tasks.data.prepare import Prepared, Tokenized
from tasks.data.split.consumed import Rows
from tasks.data.split.divide import Fate, by_task
from tasks.data.validate.sources import PreparedSource
from tasks.evaluation.answers import answer_suite, assemble_answers
from tasks.evaluation.choice import limit, part_of, take_part
from tasks.evaluation.development import set_aside
from tasks.evaluation.documents import find_documents, read_items
from tasks.evaluation.floor import unigram_floor
from tasks.evaluation.items import BATCH_TOKENS, OnProgress, Suite
from tasks.evaluation.predictions import predict_suites
from tasks.storage.code import code_version
from tasks.storage.hashing import sha256_value
from tasks.storage.steps import Step, StepPlan, run_step
from tasks.training.models.load import load_model
from tasks.training.models.soundness import require_positions
from tasks.training.threads import on_threads


def build_suites(
    spec: RunSpec, prepared: Prepared, tokenized: Tokenized, turn: int | None = None
) -> list[Suite]:
    """The domain suite (of several tasks, one each, called as it), every general suite, and the held-out rows of earlier
    increments; at most `max_tokens` each.

    `turn`: of the parts of a suite (see `evaluation.parts`) only the one whose turn it is (0, 1, ..., then 0 again).

    Raises:
        UserError: a suite has no document.
    """
    domain = [s for s in prepared.sources if s.role == "domain_suite"]
    fate = Fate.ACCEPTED
    if not domain:
        domain, fate = [s for s in prepared.sources if s.role == "domain"], Fate.HELD_OUT
    suites = [
        _build(one[0].source.task or "domain", "domain", one, fate, spec, prepared, tokenized, turn)
        for one in by_task(domain)
    ]
    past = {past_suite(number): rows for number, rows in prepared.past_rows.items()}
    taken = ["domain", *(suite.name for suite in suites), *past]
    names = suite_names([source.path for source in spec.evaluation.general], taken)
    general = [s for s in prepared.sources if s.role == "general_suite"]
    for name, source in zip(names, general, strict=True):
        suites.append(_build(name, "general", [source], Fate.ACCEPTED, spec, prepared, tokenized, turn))
    held = [s for s in prepared.sources if s.past]
    for name, rows in past.items():
        if held and len(find_documents(held, Fate.HELD_OUT, spec, prepared, tokenized, rows)[0]):
            suites.append(
                _build(name, "general", held, Fate.HELD_OUT, spec, prepared, tokenized, turn, among=rows)
            )
    return suites


def build_development(spec: RunSpec, prepared: Prepared, tokenized: Tokenized) -> list[Suite]:
    """The development part of every general suite: documents that a replay ratio is chosen on, and no verdict reached.

    Raises:
        UserError: a suite has too few groups of documents to be parted.
    """
    names = suite_names([source.path for source in spec.evaluation.general])
    general = [s for s in prepared.sources if s.role == "general_suite"]
    return [
        _build(name, "general", [source], Fate.ACCEPTED, spec, prepared, tokenized, development=True)
        for name, source in zip(names, general, strict=True)
    ]


def suite_names(paths: Sequence[str], taken: Sequence[str] = ("domain",)) -> list[str]:
    """Stem of each path; a glob's folder where the file name says nothing; numbered where two are the same."""
    names: list[str] = []
    for path in paths:
        stems = (part.split(".")[0].strip("*?_-[]") for part in reversed(Path(path).parts))
        name = next((stem for stem in stems if stem.strip("/")), "general")
        free = (name, *(f"{name}-{number}" for number in range(2, len(names) + 3)))
        names.append(next(candidate for candidate in free if candidate not in (*taken, *names)))
    return names


def _build(
    name: str,
    kind: Literal["domain", "general"],
    sources: Sequence[PreparedSource],
    fate: Fate,
    spec: RunSpec,
    prepared: Prepared,
    tokenized: Tokenized,
    turn: int | None = None,
    development: bool = False,
    among: Rows | None = None,
) -> Suite:
    documents, no_room = find_documents(sources, fate, spec, prepared, tokenized, among)
    budget = kind == "general" and among is None and spec.mixture.forgetting_budget is not None
    if budget:  # before parts are taken: no part may hold what the ratio was chosen on
        documents = set_aside(documents, spec.evaluation.max_tokens, name)[development]
    part = part_of(spec, kind, documents, turn) if among is None else None
    if part is not None:
        documents = take_part(documents, part)
    inputs = [prepared.divided.key, *(tokenized.steps[s.label].key for s in sources)]
    limits = [spec.evaluation.max_tokens, spec.training.seed, spec.training.sequence_length]
    key = [inputs, fate, limits, part, name if among is not None else ""]
    if budget:
        key = [*key, "development" if development else "without development"]
    if not len(documents):
        if fate is Fate.HELD_OUT and spec.increment is not None:
            where = ", ".join(s.source.path for s in sources)
            raise NoNewData(
                "the new files hold too little to set any aside for scoring", where, "wait for more new data"
            )
        raise UserError(
            f"the suite {name} has no document" + (f" in part {part[0]} of {part[1]}" if part else ""),
            ", ".join(s.source.path for s in sources),
            "raise evaluation.domain_holdout or add documents" if fate is Fate.HELD_OUT else "add documents",
        )
    items = read_items(limit(documents, spec.evaluation.max_tokens), sources, spec, tokenized)
    return Suite(name, kind, items, sha256_value(key), no_room, part, sources[0].source.task)


FIX = "check its config.json and its method's settings, or name another model"


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
        from tasks.evaluation.score import score_documents
        from tasks.training.device import find_device

        device = find_device()
        model = load_model(model_folder, device.frozen_dtype, "language_modeling").to(device.name)
        require_positions(model, spec.training.sequence_length)
        total = sum(item.labels for suite in suites for item in suite.items)
        before = 0
        for number, suite in enumerate(suites):
            report = _from(before, total, on_progress)
            with library_refusal("the model cannot be scored", model_folder, FIX):
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
