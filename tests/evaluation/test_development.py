"""A general suite in two parts: one to choose a ratio on, one to judge on."""

from dataclasses import replace

import numpy as np
import pytest

from schemas.errors import UserError
from tasks.evaluation.choice import limit as chosen
from tasks.evaluation.development import FEWEST_GROUPS, set_aside
from tasks.evaluation.items import Item


def items(groups: int, each: int = 2, tokens: int = 11) -> list[Item]:
    return [
        Item(f"file:{number}", f"group {number % groups}", 50, np.arange(tokens))
        for number in range(groups * each)
    ]


def ids(found: list[Item]) -> list[str]:
    return [item.id for item in found]


def test_every_document_is_in_one_part_and_every_group_in_one():
    given = items(60)
    verdict, development = set_aside(given, 10_000, 3, "general")
    assert sorted(ids(verdict) + ids(development)) == sorted(ids(given))
    assert not {item.group for item in verdict} & {item.group for item in development}
    assert ids(verdict) == [item.id for item in given if item in verdict], "in file order"


def test_a_small_suite_gives_half_and_never_more():
    given = items(60)
    verdict, development = set_aside(given, 10_000, 3, "general")
    assert len(verdict) == len(development) == 60


def test_a_large_suite_is_judged_on_the_very_documents_as_without_development():
    given = items(200)
    limit = 800  # tokens; the suite has 4,000
    verdict, development = set_aside(given, limit, 3, "general")
    assert ids(chosen(verdict, limit, 3)) == ids(chosen(given, limit, 3))
    assert sum(len(item.input_ids) - 1 for item in development) <= limit
    assert len(development) >= 70


def test_the_prompts_of_instructions_are_no_tokens_to_score():
    """A limit that counted them would set fewer documents aside than it then lets score."""
    plain = items(200)
    asked = [
        replace(item, input_ids=np.arange(41), context=31) for item in plain
    ]  # ten labels each, as the plain
    assert [ids(part) for part in set_aside(asked, 800, 3, "g")] == [
        ids(part) for part in set_aside(plain, 800, 3, "g")
    ]


def test_the_seed_chooses_the_parts():
    assert ids(set_aside(items(60), 10_000, 3, "g")[1]) != ids(set_aside(items(60), 10_000, 4, "g")[1])


@pytest.mark.parametrize("groups", [1, 2 * FEWEST_GROUPS - 1])
def test_a_suite_of_few_groups_is_not_parted(groups):
    with pytest.raises(UserError) as error:
        set_aside(items(groups, each=40), 10_000, 3, "stories")
    assert "suite stories has too few groups" in error.value.what
    assert "mixture.replay_ratio" in error.value.fix


def test_a_group_that_holds_most_tokens_leaves_too_few():
    given = [*items(40), Item("big:1", "big", 9, np.arange(5_000))]
    with pytest.raises(UserError):
        set_aside(given, 100_000, 3, "general")
