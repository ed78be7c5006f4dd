"""Entity tags: recognise the scheme of a file (IOB1, IOB2, IOBES and kin), and write every sentence in IOB2.

IOB2 (Ratnaparkhi, 1998): B-X begins every entity, I-X goes on in it. IOB1 (Ramshaw and Marcus, 1995,
https://aclanthology.org/W95-0107/): I-X begins one too, B-X only right behind another of its type. IOBES, BILOU and
BMES also mark the last word (E, L) and the only one (S, U).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

Scheme = Literal["IOB1", "IOB2", "IOBES", "BILOU", "BMES"]

_ONLY = {"S", "U"}
_LAST = {"E", "L"}
_INSIDE = {"I", "M"}
_PREFIXES = {"B", *_ONLY, *_LAST, *_INSIDE}


def split_tag(tag: str) -> tuple[str, str] | None:
    """(prefix, type) of a tag, ("O", "") for O, None for what is no tag."""
    if tag == "O":
        return "O", ""
    prefix, sign, kind = tag.partition("-")
    return (prefix, kind) if sign and kind and prefix in _PREFIXES else None


def count_marks(sentences: Iterable[Sequence[str]]) -> Counter[str]:
    """Count what tells schemes apart; counts of several shards add up.

    Prefixes, and how often an entity begins afresh (not right behind one of its type) with I or with B.
    """
    marks: Counter[str] = Counter()
    for tags in sentences:
        before = ("O", "")
        for tag in tags:
            now = split_tag(tag)
            if now is None:
                before = ("O", "")
                continue
            marks[now[0]] += 1
            if now[0] in ("B", "I") and now[1] != before[1]:
                marks[f"fresh {now[0]}"] += 1
            before = now
    return marks


def tell_scheme(marks: Counter[str]) -> Scheme:
    """The scheme that these marks are of; IOB2 where nothing speaks against it.

    In IOB1 no entity begins with B unless it stands right behind one of its type.
    """
    if marks["M"]:
        return "BMES"
    if marks["L"] or marks["U"]:
        return "BILOU"
    if marks["E"] or marks["S"]:
        return "IOBES"
    return "IOB1" if marks["fresh I"] and not marks["fresh B"] else "IOB2"


def to_iob2(tags: Sequence[str], scheme: Scheme) -> list[str] | str:
    """The same entities in IOB2, or what is wrong with the tags (never what is in them)."""
    written: list[str] = []
    before, kind_before, is_open = "O", "", False
    for number, tag in enumerate(tags, 1):
        split = split_tag(tag)
        if split is None:
            return f"tag {number} is neither O nor of the form B-TYPE"
        prefix, kind = split
        goes_on = prefix in _INSIDE | _LAST and before != "O" and kind == kind_before
        if scheme == "IOB1":
            begins = prefix != "O" and not goes_on
        else:
            if prefix in _INSIDE | _LAST and not (goes_on and (is_open or scheme == "IOB2")):
                return f"tag {number} goes on with an entity that did not begin"
            if is_open and not goes_on and scheme != "IOB2":
                return f"tag {number} comes before the entity's end"
            begins = prefix == "B" or prefix in _ONLY
        written.append("O" if prefix == "O" else f"{'B' if begins else 'I'}-{kind}")
        is_open = prefix == "B" or prefix in _INSIDE
        before, kind_before = prefix, kind
    if is_open and scheme not in ("IOB1", "IOB2"):
        return "the last entity has no end"
    return written


def entities(tags: Sequence[str]) -> set[tuple[int, int, str]]:
    """(start, stop, type) of every entity, in any tags a model may give: as conlleval reads them.

    An I-X that does not go on with an entity of its type begins one (Tjong Kim Sang's conlleval, 2000).
    """
    found: set[tuple[int, int, str]] = set()
    start, kind = 0, ""
    for place, tag in enumerate([*tags, "O"]):
        prefix, _, this = tag.partition("-")
        if kind and (prefix != "I" or this != kind):
            found.add((start, place, kind))
            kind = ""
        if prefix in ("B", "I") and not kind:
            start, kind = place, this
    return found


def iob2_names(types: Sequence[str]) -> tuple[str, ...]:
    """Every tag of IOB2 for these entity types: O first."""
    return ("O", *(f"{prefix}-{kind}" for kind in types for prefix in ("B", "I")))


def types_of(tags: Iterable[str]) -> set[str]:
    """Entity types that occur in IOB2 tags."""
    return {tag[2:] for tag in tags if tag != "O"}
