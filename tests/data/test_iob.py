"""Schemes are told apart by their marks, and every one becomes the same IOB2."""

import pytest

from tasks.data.read.entity_tags import count_marks, entities, iob2_names, tell_scheme, to_iob2

IOB2 = ["B-PER", "I-PER", "B-PER", "O", "B-LOC", "B-PER", "I-PER", "I-PER"]
SAME = {
    "IOB2": IOB2,
    "IOB1": ["I-PER", "I-PER", "B-PER", "O", "I-LOC", "I-PER", "I-PER", "I-PER"],
    "IOBES": ["B-PER", "E-PER", "S-PER", "O", "S-LOC", "B-PER", "I-PER", "E-PER"],
    "BILOU": ["B-PER", "L-PER", "U-PER", "O", "U-LOC", "B-PER", "I-PER", "L-PER"],
    "BMES": ["B-PER", "E-PER", "S-PER", "O", "S-LOC", "B-PER", "M-PER", "E-PER"],
}


@pytest.mark.parametrize("scheme", SAME)
def test_a_scheme_is_recognised_and_written_as_iob2(scheme: str) -> None:
    assert tell_scheme(count_marks([SAME[scheme], ["O", "O"]])) == scheme
    assert to_iob2(SAME[scheme], scheme) == IOB2


def test_counts_of_shards_add_up() -> None:
    parts = [["I-PER", "I-PER"], ["O", "B-LOC"]]
    assert tell_scheme(count_marks(parts[:1])) == "IOB1"
    assert tell_scheme(count_marks(parts[:1]) + count_marks(parts[1:])) == "IOB2", (
        "B- begins an entity afresh"
    )
    assert count_marks(parts) == count_marks(parts[:1]) + count_marks(parts[1:])


def test_a_file_without_entities_is_iob2() -> None:
    assert tell_scheme(count_marks([["O"], []])) == "IOB2"


@pytest.mark.parametrize(
    ("scheme", "tags", "place"),
    [
        ("IOB2", ["O", "I-PER"], "tag 2"),
        ("IOB2", ["B-LOC", "I-PER"], "tag 2"),
        ("IOB2", ["O", "PER"], "tag 2"),
        ("IOB2", ["B-"], "tag 1"),
        ("IOB2", ["X-PER"], "tag 1"),
        ("IOB2", [""], "tag 1"),
        ("IOBES", ["B-PER", "O"], "tag 2"),
        ("IOBES", ["S-PER", "E-PER"], "tag 2"),
        ("IOBES", ["B-PER", "E-LOC"], "tag 2"),
        ("IOBES", ["O", "B-PER"], "last entity"),
        ("BILOU", ["B-PER", "B-PER", "L-PER"], "tag 2"),
    ],
)
def test_broken_tags_are_named_by_their_place_and_not_by_what_is_in_them(scheme, tags, place) -> None:
    problem = to_iob2(tags, scheme)
    assert isinstance(problem, str)
    assert place in problem
    assert "PER" not in problem


def test_entities_are_exact_spans_with_types() -> None:
    assert entities(IOB2) == {(0, 2, "PER"), (2, 3, "PER"), (4, 5, "LOC"), (5, 8, "PER")}
    assert entities([]) == set()


def test_entities_of_loose_tags_are_those_of_conlleval() -> None:
    """A model may answer I- without B-: it begins an entity, and another type ends one."""
    assert entities(["I-PER", "I-PER", "O", "I-LOC", "I-PER", "B-PER"]) == {
        (0, 2, "PER"), (3, 4, "LOC"), (4, 5, "PER"), (5, 6, "PER")
    }  # fmt: skip


def test_o_is_the_first_tag() -> None:
    assert iob2_names(["LOC", "PER"]) == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
