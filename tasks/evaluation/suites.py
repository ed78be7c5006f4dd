"""Suites: which documents are scored, and their losses under each model, once per (documents, model)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from schemas.errors import UserError
from schemas.increments import past_suite
from schemas.objectives import HEADS
from schemas.run import RunSpec
from schemas.scores import ItemScore, Scores, SuiteScores, Who
from tasks.data.consumed import Rows
from tasks.data.divide import Fate, load_fates, read_groups
from tasks.data.duplicates import occur_in
from tasks.data.labels import part_labels
from tasks.data.prepare import Prepared, Tokenized
from tasks.data.sources import PreparedSource
from tasks.data.tokenize import open_tokens
from tasks.evaluation.floor import unigram_floor
from tasks.evaluation.items import BATCH_TOKENS, Item, OnProgress, Suite
from tasks.evaluation.predictions import predict_suites
from tasks.storage.hashing import code_version, sha256_value
from tasks.storage.steps import Step, StepPlan, run_step
from tasks.training.models import load_model, model_sha256

CODE = ("tasks/evaluation/suites.py", "tasks/evaluation/items.py", "tasks/evaluation/score.py")


def build_suites(spec: RunSpec, prepared: Prepared, tokenized: Tokenized) -> list[Suite]:
    """The domain suite, every general suite, and the held-out rows of earlier increments; at most `max_tokens` each.

    Raises:
        UserError: a suite has no document.
    """
    domain = [s for s in prepared.sources if s.role == "domain_suite"]
    fate = Fate.ACCEPTED
    if not domain:
        domain, fate = [s for s in prepared.sources if s.role == "domain"], Fate.HELD_OUT
    suites = [_build("domain", "domain", domain, fate, spec, prepared, tokenized)]
    past = {past_suite(number): rows for number, rows in prepared.past_rows.items()}
    names = suite_names([source.path for source in spec.evaluation.general], list(past))
    general = [s for s in prepared.sources if s.role == "general_suite"]
    for name, source in zip(names, general, strict=True):
        suites.append(_build(name, "general", [source], Fate.ACCEPTED, spec, prepared, tokenized))
    held = [s for s in prepared.sources if s.past]
    for name, rows in past.items():
        if any(_items(source, Fate.HELD_OUT, prepared, tokenized, rows) for source in held):
            suites.append(_build(name, "general", held, Fate.HELD_OUT, spec, prepared, tokenized, rows))
    return suites


def suite_names(paths: Sequence[str], taken: Sequence[str] = ()) -> list[str]:
    """Stem of each path; a glob's folder where the file name says nothing; numbered where two are the same."""
    names: list[str] = []
    for path in paths:
        stems = (part.split(".")[0].strip("*?_-[]") for part in reversed(Path(path).parts))
        name = next((stem for stem in stems if stem.strip("/")), "general")
        free = (name, *(f"{name}-{number}" for number in range(2, len(names) + 3)))
        names.append(next(candidate for candidate in free if candidate not in ("domain", *taken, *names)))
    return names


def _build(
    name: str,
    kind: Literal["domain", "general"],
    sources: Sequence[PreparedSource],
    fate: Fate,
    spec: RunSpec,
    prepared: Prepared,
    tokenized: Tokenized,
    rows: Rows | None = None,
) -> Suite:
    items = [item for source in sources for item in _items(source, fate, prepared, tokenized, rows)]
    chosen = _limit(items, spec.evaluation.max_tokens, spec.training.seed)
    if not chosen:
        raise UserError(
            f"the suite {name} has no document",
            ", ".join(s.source.path for s in sources),
            "raise evaluation.domain_holdout or add documents" if fate is Fate.HELD_OUT else "add documents",
        )
    inputs = [prepared.divided.key, *(tokenized.steps[s.label].key for s in sources)]
    return Suite(
        name,
        kind,
        tuple(chosen),
        sha256_value(
            [inputs, fate, spec.evaluation.max_tokens, spec.training.seed, name if rows is not None else ""]
        ),
    )


def _items(
    source: PreparedSource, fate: Fate, prepared: Prepared, tokenized: Tokenized, among: Rows | None = None
) -> list[Item]:
    import pyarrow.parquet as pq

    found = []
    objective = prepared.objective
    parts = open_tokens(tokenized.steps[source.label], len(source.parts), tokenized.special.vocab_size)
    for file, tokens, fates in zip(source.parts, parts, load_fates(prepared.divided, source), strict=True):
        table = pq.read_table(file, columns=["file", "line", "bytes"])
        groups = read_groups(file)
        gold = None if objective is None else list(part_labels(file, objective))
        chosen = (fates == fate) & (np.diff(tokens.offsets) > 1)
        if among is not None:
            chosen &= occur_in(file, among)
        for row in np.flatnonzero(chosen).tolist():
            place = f"{table['file'][row].as_py()}:{table['line'][row].as_py()}"
            found.append(
                Item(
                    place,
                    groups[row],
                    table["bytes"][row].as_py(),
                    np.array(tokens.document(row)),
                    () if gold is None else tuple(gold[row]),
                    None if tokens.words is None else np.array(tokens.words_of(row)),
                )
            )
    return found


def _limit(items: list[Item], max_tokens: int, seed: int) -> list[Item]:
    """Whole documents, in the order of a seeded hash of their group, until the budget is met; then in file order.

    The last group may be cut. One document is always kept, however long it is.
    """
    import xxhash

    def rank(item: Item) -> int:
        return xxhash.xxh3_64_intdigest(item.group.encode(), seed=seed + 1)

    chosen: set[int] = set()
    tokens = 0
    for index in sorted(range(len(items)), key=lambda i: (rank(items[i]), i)):
        tokens += len(items[index].input_ids) - 1
        if tokens > max_tokens and chosen:
            break
        chosen.add(index)
    return [item for index, item in enumerate(items) if index in chosen]


def score_model(
    root: Path,
    spec: RunSpec,
    suites: Sequence[Suite],
    model_folder: Path,
    on_progress: OnProgress | None = None,
) -> Step:
    """Score every document of every suite under one model: its summed loss (`nats-N.npy` per suite).

    A model with a head gives labels instead: see `predictions.predict_suites`.
    """
    if spec.objective.kind in HEADS:
        return predict_suites(root, spec, suites, model_folder, on_progress)
    plan = StepPlan(
        root=root,
        name="score",
        inputs={
            "model": model_sha256(model_folder),
            **{f"suite {suite.name}": suite.key for suite in suites},
        },
        settings=spec.training.sequence_length,
        code=code_version(CODE, ("torch", "transformers")),
    )

    def work(folder: Path) -> dict[str, Any]:
        from tasks.evaluation.score import score_documents
        from tasks.training.device import find_device

        device = find_device()
        model = load_model(model_folder, device.frozen_dtype, "language_modeling").to(device.name)
        total = sum(len(item.input_ids) - 1 for suite in suites for item in suite.items)
        before = 0
        for number, suite in enumerate(suites):
            report = None if on_progress is None else (lambda done, _, b=before: on_progress(b + done, total))
            documents = [item.input_ids for item in suite.items]
            nats = score_documents(
                model, documents, spec.training.sequence_length, BATCH_TOKENS, device.name, report
            )
            np.save(folder / f"nats-{number}.npy", nats)
            before += sum(len(ids) - 1 for ids in documents)
        return {}

    return run_step(plan, work)


def assemble_scores(suites: Sequence[Suite], steps: Mapping[Who, Step], vocab_size: int) -> Scores:
    """Put the losses of all models side by side, item by item."""
    assembled = []
    for number, suite in enumerate(suites):
        nats = {who: np.load(step.folder / f"nats-{number}.npy").tolist() for who, step in steps.items()}
        items = tuple(
            ItemScore(
                id=item.id,
                group=item.group,
                tokens=len(item.input_ids) - 1,
                bytes=item.bytes,
                nats={who: values[index] for who, values in nats.items()},
            )
            for index, item in enumerate(suite.items)
        )
        floor = unigram_floor([item.input_ids for item in suite.items], vocab_size)
        assembled.append(SuiteScores(name=suite.name, kind=suite.kind, floor=floor, items=items))
    return Scores(suites=tuple(assembled))
