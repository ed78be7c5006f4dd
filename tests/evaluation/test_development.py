"""A general suite in two parts: one to choose a ratio on, one to judge on."""

import numpy as np
import pytest
import xxhash

from schemas.errors import UserError
from tasks.evaluation.suites.budget_split import FEWEST_GROUPS, set_aside
from tasks.evaluation.suites.choice import limit
from tasks.evaluation.suites.documents import Documents


def documents(groups: int, each: int = 2, labels: int = 10, seed: int = 3) -> Documents:
    """Documents `each` a group, the groups one after another again and again."""
    group = np.arange(groups * each) % groups
    rank = np.array([xxhash.xxh3_64_intdigest(bytes(number), seed=seed) for number in group], np.uint64)
    columns = np.zeros((5, len(group)), np.int64)
    columns[2], columns[3:] = np.arange(len(group)), labels
    return Documents(*columns, rank, rank)  # type: ignore[arg-type]


def rows(found: Documents) -> list[int]:
    return found.row.tolist()  # type: ignore[no-any-return]


def test_every_document_is_in_one_part_and_every_group_in_one():
    given = documents(60)
    verdict, development = set_aside(given, 10_000, "general")
    assert sorted(rows(verdict) + rows(development)) == rows(given)
    assert not set(verdict.rank.tolist()) & set(development.rank.tolist())
    assert rows(verdict) == sorted(rows(verdict)), "in file order"


def test_a_small_suite_gives_half_and_never_more():
    verdict, development = set_aside(documents(60), 10_000, "general")
    assert len(verdict) == len(development) == 60


def test_a_large_suite_is_judged_on_the_very_documents_as_without_development():
    given = documents(200)
    most = 800  # tokens; the suite has 4,000
    verdict, development = set_aside(given, most, "general")
    assert rows(limit(verdict, most)) == rows(limit(given, most))
    assert development.labels.sum() <= most
    assert len(development) >= 70


def test_the_seed_chooses_the_parts():
    one, other = (set_aside(documents(60, seed=seed), 10_000, "g")[1] for seed in (3, 4))
    assert rows(one) != rows(other)


@pytest.mark.parametrize("groups", [1, 2 * FEWEST_GROUPS - 1])
def test_a_suite_of_few_groups_is_not_parted(groups):
    with pytest.raises(UserError) as error:
        set_aside(documents(groups, each=40), 10_000, "stories")
    assert "suite stories has too few groups" in error.value.what
    assert "mixture.replay_ratio" in error.value.fix


def test_a_group_that_holds_most_tokens_leaves_too_few():
    given = documents(41)
    given.labels[given.row == 40] = 5_000
    given.rank[given.row % 41 == 40] = 0
    with pytest.raises(UserError):
        set_aside(given, 100_000, "general")


def test_a_limit_takes_documents_group_by_group_and_always_one():
    given = documents(20, each=3)
    chosen = limit(given, 100)
    assert len(chosen) == 10
    assert rows(chosen) == sorted(rows(chosen))
    assert len(set(chosen.rank.tolist())) == 4, "three whole groups and one of another"
    assert len(limit(given, 3)) == 1
    assert len(limit(given.take(np.zeros(60, bool)), 100)) == 0
