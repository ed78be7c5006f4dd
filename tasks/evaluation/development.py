"""Part a general suite in two: what a replay ratio is chosen on, and what the verdict is reached on."""

from collections.abc import Sequence

from schemas.errors import UserError
from tasks.evaluation.items import Item

FEWEST_GROUPS = 16
"""In each part: with fewer, an interval over groups says little."""


def in_hash_order(items: Sequence[Item], seed: int) -> list[int]:
    """Numbers of the items in the order of a seeded hash of their group; items of one group stand together."""
    import xxhash

    def rank(item: Item) -> int:
        return xxhash.xxh3_64_intdigest(item.group.encode(), seed=seed + 1)

    return sorted(range(len(items)), key=lambda number: (rank(items[number]), number))


def set_aside(items: Sequence[Item], max_tokens: int, seed: int, suite: str) -> tuple[list[Item], list[Item]]:
    """Part a suite by groups: (for the verdict, for development), each in file order.

    Development gets the whole groups at the end of the hash order, at most `max_tokens` tokens and half of all. The verdict
    scores from the beginning of that order, so where a suite has twice `max_tokens` it scores the very documents
    that it would score without development.

    Raises:
        UserError: a part would have fewer than FEWEST_GROUPS groups.
    """
    order = in_hash_order(items, seed)
    sizes: dict[str, int] = {}
    for number in order:
        group = items[number].group
        sizes[group] = sizes.get(group, 0) + items[number].labels
    total = sum(sizes.values())
    cut, start = max(total - max_tokens, total // 2), 0
    chosen: set[str] = set()
    for group, tokens in sizes.items():
        if start >= cut:
            chosen.add(group)
        start += tokens
    if min(len(chosen), len(sizes) - len(chosen)) < FEWEST_GROUPS:
        raise UserError(
            f"the suite {suite} has too few groups of documents to choose a replay ratio on one part and judge on another",
            f"evaluation.general: {len(sizes)} groups, at least {2 * FEWEST_GROUPS} of like size are needed",
            "add documents to the suite, or give mixture.replay_ratio instead of forgetting_budget",
        )
    verdict = [item for item in items if item.group not in chosen]
    return verdict, [item for item in items if item.group in chosen]
