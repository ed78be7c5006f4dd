"""Which documents of a suite are scored: the part whose turn it is, and so many tokens."""

import numpy as np

from schemas.results.scores import SuiteKind
from schemas.spec.run import RunSpec
from tasks.evaluation.suites.documents import Documents

MOST_PARTS = 100


def part_of(spec: RunSpec, kind: SuiteKind, documents: Documents, turn: int | None) -> tuple[int, int] | None:
    """(n, of) of the part whose turn it is; None where the suite is whole."""
    parts = spec.evaluation.parts or 1
    if spec.evaluation.parts is None and spec.increments is not None and kind == "general":
        parts = min(MOST_PARTS, int(documents.labels.sum()) // spec.evaluation.max_tokens)
    return None if turn is None or parts <= 1 else (turn % parts + 1, parts)


def take_part(documents: Documents, part: tuple[int, int]) -> Documents:
    """The documents of the n-th of so many parts: the same in every run, so that parts never overlap."""
    number, parts = part
    return documents.take(documents.turn % np.uint64(parts) == number - 1)


def limit(documents: Documents, max_tokens: int) -> Documents:
    """Whole documents, in the order of a seeded hash of their group, until the budget is met; then in file order.

    The last group may be cut. One document is always kept, however long it is.
    """
    order = np.argsort(documents.rank, kind="stable")
    fitting = np.searchsorted(np.cumsum(documents.labels[order]), max_tokens, side="right")
    return documents.take(np.sort(order[: max(1, int(fitting))]))
