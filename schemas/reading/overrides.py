"""`key.path=value` overrides, written into a specification so that their order tells nothing and none is lost."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from schemas.errors import UserError, UserErrors
from schemas.reading.yaml_reader import MAX_DEPTH, Document, Path, parse_yaml


class Override(NamedTuple):
    """One `--set TEXT`, read."""

    path: Path
    value: Any
    text: str
    layer: int
    """See `apply_overrides`."""

    @property
    def place(self) -> str:
        return f"--set {self.text}"

    @property
    def order(self) -> tuple[int, bool]:
        """Broad before narrow, and a `kind` before the settings beside it: it takes those of another kind away."""
        return len(self.path), self.path[-1] != "kind"


def apply_overrides(
    document: Document,
    overrides: Sequence[str],
    example: str = "mixture.replay_ratio=0.1",
    below: Sequence[Sequence[str]] = (),
) -> list[UserError]:
    """Write each `key.path=value` into the document; values are read as YAML. `example` is one that is right.

    Two of `overrides` that contradict each other are a mistake. So are two of one layer of `below`; but those of a higher
    layer (a candidate of a comparison), and `overrides` above all, may replace those of a lower one (what all share).
    """
    read, errors = _read_all([*below, overrides], example)
    for index, one in enumerate(read):
        errors += [error for other in read[:index] if (error := _contradiction(one, other))]
    highest = {one.path: one.layer for one in read}  # layers come in their order
    kept = [one for one in read if one.layer == highest[one.path]]
    for one in sorted(kept, key=lambda one: one.order):
        errors += [error] if (error := _write(document, one)) else []
    return errors


def refuse_given(overrides: Sequence[str], given: Mapping[str, str]) -> list[UserError]:
    """Name the overrides of what is given elsewhere, and so would have no effect: `given` is key -> where it is given."""
    errors = []
    for one in _read_all([overrides], "")[0]:
        for key, where in given.items():
            path = tuple(key.split("."))
            inside = one.path[: len(path)] == path
            around = path[: len(one.path)] == one.path and [*_within(one.value, path[len(one.path) :])]
            if inside or around:
                what = f"{key} is given by {where}: this override would have no effect"
                errors.append(UserError(what, one.place, f"remove it, or write it in {where}"))
    return errors


def name_both(errors: Sequence[UserError], overrides: Sequence[str]) -> list[UserError]:
    """The same mistakes; one of an override that another has no room for (its `kind`, what it is part of) names both."""
    read = {one.place: one for one in _read_all([overrides], "")[0]}
    named = []
    for error in errors:
        one = read.get(error.where)
        others = [other.place for other in read.values() if one is not None and _decides(other, one)]
        more = f"; or leave out {' and '.join(others)}" if others else ""
        named.append(UserError(error.what, error.where, error.fix + more) if more else error)
    return named


def _decides(other: Override, one: Override) -> bool:
    above = other.path[:-1] if other.path[-1] == "kind" else other.path
    return other.path != one.path and one.path[: len(above)] == above != one.path


def _read_all(layers: Sequence[Sequence[str]], example: str) -> tuple[list[Override], list[UserError]]:
    read: list[Override] = []
    errors: list[UserError] = []
    for text, layer in ((text, layer) for layer, texts in enumerate(layers) for text in dict.fromkeys(texts)):
        key, sign, raw = text.partition("=")
        place = f"--set {text}"
        keys = key.strip().split(".")
        if not sign or not all(keys):
            what = "an override needs the form key.path=value"
            errors.append(UserError(what, place, f"write for example --set {example}"))
            continue
        if len(keys) > MAX_DEPTH:
            errors.append(UserError("nested too deeply", place[:200], f"at most {MAX_DEPTH} levels"))
            continue
        try:
            value = parse_yaml(raw, place).value
        except UserErrors as unreadable:
            errors += [UserError(e.what, place, _fix_of_override(e.fix)) for e in unreadable.errors]
            continue
        read.append(Override(tuple(_number(key) or key for key in keys), value, text, layer))
    return read, errors


def _number(key: str) -> str | None:
    """An index of a list as it is always written: `00` and `0` are one key."""
    return str(int(key)) if re.fullmatch(r"[0-9]{1,9}", key) else None


def _fix_of_override(fix: str) -> str:
    """A remedy without the lines that a one-line text does not have."""
    return re.sub(r" on this line( and the one before)?|; the first is on line \d+", "", fix)


def _contradiction(one: Override, other: Override) -> UserError | None:
    """Why one of two overrides would be lost."""
    broad, narrow = sorted((other, one), key=lambda override: (len(override.path), override.layer))
    if narrow.path[: len(broad.path)] != broad.path or narrow.layer > broad.layer:
        return None
    for within in _within(broad.value, narrow.path[len(broad.path) :]):
        if within is _LOST or _told(within) != _told(narrow.value):
            what = f"{'.'.join(map(str, narrow.path))} is set twice, by {broad.place} and by {narrow.place}"
            return UserError(what, one.place, "leave out one of them: only one could have an effect")
    return None


_LOST = object()


def _told(value: Any) -> str:
    return json.dumps(value, sort_keys=True)  # true is not 1


def _within(value: Any, path: Path) -> Iterator[Any]:
    """What a broad override says of a path below it, if it says anything."""
    for key in path:
        if isinstance(value, list) and str(key).isdecimal() and int(key) < len(value):
            value = value[int(key)]
        elif isinstance(value, list):
            return  # that there is no such entry is said when it is written
        elif isinstance(value, dict):
            if key not in value:
                return
            value = value[key]
        else:
            yield _LOST  # a plain value that the narrow one would replace by a mapping
            return
    yield value


def _write(document: Document, override: Override) -> UserError | None:
    keys, place = override.path, override.place
    node: Any = document.value
    path: Path = ()
    for depth, key in enumerate(keys):
        if isinstance(node, list):
            if not _number(str(key)) or int(key) >= len(node):
                have = f"the list has the entries 0 to {len(node) - 1}" if node else "the list is empty"
                return UserError(f"{'.'.join(map(str, keys[: depth + 1]))} does not exist", place, have)
            step: Any = int(key)
        else:
            step = key
        path = (*path, step)
        if depth == len(keys) - 1:
            # a `kind` replaced by another takes its own settings: the old kind's would be refused
            if depth and step == "kind" and node.get("kind") not in (None, override.value):
                node.clear()
            node[step] = override.value
            document.places = {p: w for p, w in document.places.items() if p[: len(path)] != path}
            document.places[path] = place
        else:
            if not isinstance(node[step] if isinstance(node, list) else node.get(step), dict | list):
                node[step] = {}
                document.places[path] = place
            node = node[step]
    return None
