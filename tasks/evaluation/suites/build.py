"""Build the suites of a specification from its rows and their tokens."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from schemas.errors import NoNewData, UserError
from schemas.spec.increments import past_suite
from schemas.spec.run import RunSpec
from tasks.data.prepare import Prepared, Tokenized
from tasks.data.split.consumed import Rows
from tasks.data.split.divide import Fate, by_task
from tasks.data.validate.sources import PreparedSource
from tasks.evaluation.suites.budget_split import set_aside
from tasks.evaluation.suites.choice import limit, part_of, take_part
from tasks.evaluation.suites.documents import find_documents, read_items
from tasks.evaluation.suites.items import Suite
from tasks.storage.hashing import sha256_value


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
