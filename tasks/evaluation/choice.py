"""Which documents of a suite are scored: the part whose turn it is, what fits, and so many tokens."""

from collections.abc import Sequence
from dataclasses import replace

from schemas.run import RunSpec
from schemas.scores import SuiteKind
from tasks.evaluation.development import in_hash_order
from tasks.evaluation.items import Item

PARTS_SEED = 2**33
"""No training has this seed: the split of domain_holdout and the choice of max_tokens hash groups too."""


MOST_PARTS = 100


def part_of(
    spec: RunSpec, kind: SuiteKind, items: Sequence[Item], turn: int | None
) -> tuple[int, int] | None:
    """(n, of) of the part whose turn it is; None where the suite is whole."""
    parts = spec.evaluation.parts or 1
    if spec.evaluation.parts is None and spec.increments is not None and kind == "general":
        parts = min(MOST_PARTS, sum(item.labels for item in items) // spec.evaluation.max_tokens)
    return None if turn is None or parts <= 1 else (turn % parts + 1, parts)


def part_of_group(group: str, parts: int) -> int:
    """The same in every run, whatever its seed, so that parts never overlap."""
    import xxhash

    return xxhash.xxh3_64_intdigest(group.encode(), seed=PARTS_SEED) % parts


def fitting(items: list[Item], spec: RunSpec) -> tuple[list[Item], int]:
    """Responses cut as in training, where their loss is scored; and how many prompts leave no room for one.

    A prompt that is answered keeps its whole response: the right answer stands at its end.
    """
    if spec.objective.kind != "instruction":
        return items, 0
    longest = spec.training.sequence_length
    kept = []
    for item in items:
        if item.gold or not item.is_instruction:
            kept.append(item)
        elif item.context < longest:
            kept.append(replace(item, input_ids=item.input_ids[:longest]))
    return kept, len(items) - len(kept)


def limit(items: list[Item], max_tokens: int, seed: int) -> list[Item]:
    """Whole documents, in the order of a seeded hash of their group, until the budget is met; then in file order.

    The last group may be cut. One document is always kept, however long it is.
    """
    chosen: set[int] = set()
    tokens = 0
    for index in in_hash_order(items, seed):
        tokens += items[index].labels
        if tokens > max_tokens and chosen:
            break
        chosen.add(index)
    return [item for index, item in enumerate(items) if index in chosen]
