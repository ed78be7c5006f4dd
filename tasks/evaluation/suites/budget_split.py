"""Part a general suite in two: what a replay ratio is chosen on, and what the verdict is reached on."""

import numpy as np

from schemas.errors import UserError
from tasks.evaluation.suites.documents import Documents

FEWEST_GROUPS = 16
"""In each part: with fewer, an interval over groups says little."""


def set_aside(documents: Documents, max_tokens: int, suite: str) -> tuple[Documents, Documents]:
    """Part a suite by groups: (for the verdict, for development), each in file order.

    Development gets the whole groups at the end of the hash order, at most `max_tokens` tokens and half of all. The verdict
    scores from the beginning of that order, so where a suite has twice `max_tokens` it scores the very documents
    that it would score without development.

    Raises:
        UserError: a part would have fewer than FEWEST_GROUPS groups.
    """
    groups, group_of = np.unique(documents.rank, return_inverse=True)
    sizes = np.zeros(len(groups), np.int64)
    np.add.at(sizes, group_of, documents.labels)
    total = int(sizes.sum())
    chosen = np.cumsum(sizes) - sizes >= max(total - max_tokens, total // 2)
    if min(chosen.sum(), (~chosen).sum()) < FEWEST_GROUPS:
        raise UserError(
            f"the suite {suite} has too few groups of documents to choose a replay ratio on one part and judge on another",
            f"evaluation.general: {len(groups)} groups, at least {2 * FEWEST_GROUPS} of like size are needed",
            "add documents to the suite, or give mixture.replay_ratio instead of forgetting_budget",
        )
    developed = chosen[group_of]
    return documents.take(~developed), documents.take(developed)
