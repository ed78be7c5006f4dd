"""Where texts are cut, and what a vocabulary says about it."""

import pytest

from tasks.data.tokens.fast.cuts import MARGIN, Cuts, cut_pieces, lay_out, reach_across
from tasks.data.tokens.fast.han_cuts import find_glue


def pieces(texts: list[str], cuts: Cuts) -> list[str]:
    data, ends = lay_out([text.encode() for text in texts])
    starts = cut_pieces(data, ends, cuts).tolist()
    stops = [*starts, int(ends[-1])][1:]
    return [data[start:stop].tobytes().decode() for start, stop in zip(starts, stops, strict=True)]


MOST = Cuts(stops=True, line_ends=True, glue=find_glue(["我们".encode(), "中文".encode()]))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one two", ["one", " two"]),
        ("one  two", ["one", " ", " two"]),
        ("don't", ["don't"]),
        ("end. Next", ["end", ".", " Next"]),
        ("a\nb", ["a", "\n", "b"]),
        ("a\n\nb", ["a", "\n\n", "b"]),
        ("a\n/b", ["a", "\n/b"]),
        ("a\u3000b", ["a\u3000b"]),
        ("a \u2003b", ["a \u2003b"]),
        ("我们中文", ["我们", "中文"]),
        ("我，们", ["我", "，", "们"]),
        ("。”我", ["。”", "我"]),
    ],
)
def test_a_text_is_cut_where_nothing_reaches_across(text, expected):
    assert pieces([text], MOST) == expected


def test_without_cuts_at_stops_punctuation_stays_with_its_word():
    assert pieces(["end. Next"], Cuts()) == ["end.", " Next"]


@pytest.mark.parametrize("first", ["a", "a ", "a\n", "\n", " ", "", "我"])
@pytest.mark.parametrize("second", ["b", " b", "\nb", "\n", ".", "", "们"])
def test_a_text_is_cut_the_same_whatever_stands_beside_it(first, second):
    alone = pieces([first], MOST) + pieces([second], MOST)
    assert pieces([first, second], MOST) == alone


def test_the_first_piece_begins_at_the_margin():
    data, ends = lay_out([b"", b"ab"])
    assert cut_pieces(data, ends, MOST).tolist() == [MARGIN]


@pytest.mark.parametrize(
    ("token", "crosses"),
    [(b"the quick", True), (b"e.g", True), (b" the", False), (b".\n\n", False), (b"    ", False)],
)
def test_a_token_with_a_cut_inside_reaches_across(token, crosses):
    assert reach_across([b"plain", token], Cuts(stops=True)) == crosses


@pytest.mark.parametrize(
    "token",
    ["我们".encode(), "我们".encode()[:4], "我们".encode()[2:], "我们".encode()[2:4], "我们".encode()[1:5]],
)
def test_a_token_that_holds_part_of_two_characters_keeps_them_together(token):
    assert pieces(["我们"], Cuts(glue=find_glue([b"ab", token]))) == ["我们"]
    assert pieces(["好吗"], Cuts(glue=find_glue([b"ab", "我们".encode()]))) == ["好", "吗"]
