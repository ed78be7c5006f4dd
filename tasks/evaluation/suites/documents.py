"""What a suite may score: of every document a few numbers, so that only those that are scored are held as items."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.spec.run import RunSpec
from tasks.data.labels.labels import part_labels
from tasks.data.prepare import Prepared, Tokenized
from tasks.data.split.consumed import Rows
from tasks.data.split.divide import Fate, load_fates, read_groups
from tasks.data.split.duplicates import occur_in
from tasks.data.tokens.token_files import TokenPart, open_tokens
from tasks.data.validate.sources import PreparedSource
from tasks.evaluation.suites.gold_answers import final_answers, require_answers, response_bytes
from tasks.evaluation.suites.items import Item

TURN_SEED = 2**33
"""No training has this seed: the split of domain_holdout and the choice of max_tokens hash groups too."""


@dataclass(frozen=True)
class Documents:
    """Documents in file order, a number each in every column."""

    source: npt.NDArray[np.int32]
    """Among the sources of the suite."""
    part: npt.NDArray[np.int32]
    row: npt.NDArray[np.int64]
    ids: npt.NDArray[np.int64]
    """How many ids are read of it."""
    labels: npt.NDArray[np.int64]
    """How many of them are labels."""
    rank: npt.NDArray[np.uint64]
    """Seeded hash of its group: documents of one group share it, and are chosen next to one another."""
    turn: npt.NDArray[np.uint64]
    """Hash of its group that is the same in every run, whatever its seed: which part it belongs to."""

    def __len__(self) -> int:
        return len(self.row)

    def take(self, chosen: npt.NDArray[Any]) -> "Documents":
        """The chosen ones: a mask, or their numbers."""
        return Documents(*(getattr(self, field.name)[chosen] for field in fields(self)))


def find_documents(
    sources: Sequence[PreparedSource],
    fate: Fate,
    spec: RunSpec,
    prepared: Prepared,
    tokenized: Tokenized,
    among: Rows | None = None,
) -> tuple[Documents, int]:
    """The documents of a fate (of those whose digests are `among`), and how many prompts leave no room for a response.

    Responses are cut as in training, where their loss is scored. A prompt that is answered keeps its whole response: the
    right answer stands at its end.
    """
    columns: list[tuple[npt.NDArray[Any], ...]] = []
    no_room = 0
    for number, source in enumerate(sources):
        parts = _open(source, tokenized)
        for at, (tokens, fates) in enumerate(zip(parts, load_fates(prepared.divided, source), strict=True)):
            file = source.parts[at]
            chosen = (fates == fate) & (tokens.labels > 0)
            if among is not None:
                chosen &= occur_in(file, among)
            ids: npt.NDArray[np.int64] = np.diff(tokens.offsets)
            labels = tokens.labels
            if tokens.contexts is not None:
                if tokenized.asks:
                    require_answers(file, final_answers(file), fates == fate)
                else:
                    ids = np.minimum(ids, spec.training.sequence_length)
                    labels = ids - tokens.contexts
                    no_room += int((chosen & (labels < 1)).sum())
                    chosen &= labels > 0
            rows = np.flatnonzero(chosen)
            groups = read_groups(file) if len(rows) else []
            hashed = _hash([groups[row] for row in rows.tolist()], spec.training.seed + 1)
            where = (np.full(len(rows), number, np.int32), np.full(len(rows), at, np.int32), rows)
            columns.append((*where, ids[rows], labels[rows], *hashed))
    joined: list[npt.NDArray[Any]] = [np.concatenate(column) for column in zip(*columns, strict=True)]
    return Documents(*joined), no_room


def _hash(groups: Sequence[str], seed: int) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    import xxhash

    def hashes(seed: int) -> npt.NDArray[np.uint64]:
        return np.array([xxhash.xxh3_64_intdigest(group.encode(), seed=seed) for group in groups], np.uint64)

    return hashes(seed), hashes(TURN_SEED)


def _open(source: PreparedSource, tokenized: Tokenized) -> list[TokenPart]:
    return open_tokens(tokenized.steps[source.label], len(source.parts), tokenized.special.vocab_size)


def read_items(
    documents: Documents, sources: Sequence[PreparedSource], spec: RunSpec, tokenized: Tokenized
) -> tuple[Item, ...]:
    """The documents as they are scored."""
    items: list[Item] = []
    for number, source in enumerate(sources):
        of_source = documents.take(documents.source == number)
        if not len(of_source):
            continue
        for at, tokens in enumerate(_open(source, tokenized)):
            here = of_source.take(of_source.part == at)
            items += _items_of_part(here, source, at, tokens, spec, tokenized.asks) if len(here) else []
    return tuple(items)


def _items_of_part(
    documents: Documents, source: PreparedSource, at: int, tokens: TokenPart, spec: RunSpec, asks: bool
) -> list[Item]:
    import pyarrow.parquet as pq

    file = source.parts[at]
    table = pq.read_table(file, columns=["file", "line", "bytes"])
    groups = read_groups(file)
    objective = spec.objective_of(source.source)
    is_instruction = tokens.contexts is not None
    gold: list[Sequence[str]] | None = None
    if objective.new_head:
        gold = list(part_labels(file, objective))
    if asks and is_instruction:
        gold = final_answers(file)
    sizes = response_bytes(file) if is_instruction else table["bytes"]
    return [
        Item(
            f"{table['file'][row].as_py()}:{table['line'][row].as_py()}",
            groups[row],
            sizes[row] if is_instruction else sizes[row].as_py(),
            np.array(tokens.document(row)[:ids]),
            () if gold is None else tuple(gold[row]),
            None if tokens.words is None else np.array(tokens.words_of(row)),
            tokens.context(row),
            is_instruction,
        )
        for row, ids in zip(documents.row.tolist(), documents.ids.tolist(), strict=True)
    ]
