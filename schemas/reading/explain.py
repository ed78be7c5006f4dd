"""Turn Pydantic's errors into the three lines people read."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel, Tag
from pydantic.fields import FieldInfo

from schemas.errors import UserError
from schemas.nearest import nearest, synonym
from schemas.reading.yaml_reader import Document, Path

INTERNAL = {"increment"}
"""Keys that Rootstock writes itself: nobody is told to use them."""
SPECIFICATION = "docs/specification.md"
MAX_HOMES = 5
"""A key that belongs to more places than these (`kind`) tells nothing by them."""


def explain(errors: Sequence[Any], root: type[BaseModel], document: Document) -> list[UserError]:
    """Explain each error at its place in the document."""
    explained: list[UserError] = []
    walked = [_walk(error["loc"], root) for error in errors]
    broken = {path[:depth] for path, _ in walked for depth in range(1, len(path))}
    for error, (path, models) in zip(errors, walked, strict=True):
        if error["type"] == "default_factory_not_called":
            continue  # a default that follows from keys which are wrong: those are told
        if error["type"] == "value_error":
            explained += _combination(str(error["ctx"]["error"]), path, document)
        elif not (error["type"] == "too_short" and path in broken):  # its entries are there, and wrong
            explained.append(_one(error, path, models, root, document))
    return explained


def _walk(loc: Sequence[str | int], root: type[BaseModel]) -> tuple[Path, list[type[BaseModel]]]:
    """Drop the tags of unions from `loc`; return the path in the file and the models met on the way."""
    path: list[str | int] = []
    models: list[type[BaseModel]] = [root]
    union: dict[str, type[BaseModel] | None] = {}
    for part in loc:
        if part in union:
            member = union[str(part)]
            models += [member] if member else []
            union = {}
            continue
        path.append(part)
        field = models[-1].model_fields.get(part) if isinstance(part, str) else None
        if field is not None:
            union = _union(field)
            found = _models(field.annotation)
            models += found if len(found) == 1 and not union else []
    return tuple(path), models


def _union(field: FieldInfo) -> dict[str, type[BaseModel] | None]:
    """Tag -> member of a tagged union: Pydantic names the member it chose in an error's place."""
    if field.discriminator is not None:
        return {str(_tag(model)): model for model in _models(field.annotation)}
    if get_origin(field.annotation) is tuple and all(_tag(model) for model in _models(field.annotation)):
        return {str(_tag(model)): model for model in _models(field.annotation)}  # a list of tagged unions
    return dict(_tagged(field.annotation))


def _tagged(annotation: Any) -> typing.Iterator[tuple[str, type[BaseModel] | None]]:
    inner, *notes = get_args(annotation) or (None,)
    tags = [note.tag for note in notes if isinstance(note, Tag)]
    if get_origin(annotation) is typing.Annotated and tags:
        yield tags[0], next(iter(_models(inner)), None)
    elif get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated):
        for part in get_args(annotation):
            yield from _tagged(part)


def _models(annotation: Any) -> list[type[BaseModel]]:
    """Every model class inside an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated, tuple, list):
        return [model for part in get_args(annotation) for model in _models(part)]
    return []


def _tag(model: type[BaseModel]) -> str | None:
    kind = model.model_fields.get("kind")
    return str(kind.default) if kind is not None and not kind.is_required() else None


def _one(
    error: Any, path: Path, models: list[type[BaseModel]], root: type[BaseModel], document: Document
) -> UserError:
    name, where = _name(path), document.place(path)
    kind, context, given = error["type"], error.get("ctx", {}), error["input"]
    about = _about(models, path)
    if kind == "extra_forbidden":
        return _unknown_key(path, models[-1], root, where)
    if kind == "missing":
        what = f"{name} is missing"
        return UserError(what, document.place(path[:-1]), f"add `{path[-1]}: ...`{about and f'  ({about})'}")
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        tags = _tags_at(models[-1], path)
        for key in given if isinstance(given, dict) else ():
            if blank := _missing_blank(key, ["kind"]):
                return UserError(f"{name}.kind is missing", where, f"{blank}; known: {', '.join(tags)}")
        return _kind(name, where, context, tags, document.place((*path, "kind")))
    if kind == "literal_error":
        allowed = [text.strip("' ") for text in str(context["expected"]).replace(" or ", ", ").split(",")]
        return UserError(
            f"{name} cannot be {shown(given)}",
            where,
            f"{nearest(str(given), allowed)}allowed: {', '.join(allowed)}",
        )
    if kind in _LIMITS:
        limit = f"{_LIMITS[kind]} {next(iter(context.values())):g}"
        percent = isinstance(given, float | int) and 2 <= given <= 100 and limit in ("below 1", "at most 1")
        example = f" ({given:g} % is {given / 100:g})" if percent else ""
        return UserError(
            f"{name} is {shown(given)}; it must be {limit}", where, f"write a number {limit}{example}"
        )
    if kind == "string_pattern_mismatch":
        return UserError(
            f"{name} cannot be {shown(given)}", where, about or f"it must match {context['pattern']}"
        )
    if kind == "too_short" and given:
        least, number = context["min_length"], context["actual_length"]
        fix = f"write more: {about}" if about else "write more"
        return UserError(f"{name} has {number} entries; at least {least} are needed", where, fix)
    if kind in ("too_short", "string_too_short"):
        return UserError(f"{name} is empty", where, f"fill it in: {about}" if about else "fill it in")
    if kind == "finite_number":
        return UserError(f"{name} is {shown(given)}; it must be finite", where, "write a finite number")
    wanted = _WANTED.get(kind.split("_")[0])
    if wanted and kind.endswith(("_type", "_parsing", "_from_float")):
        fix = _how_to_write(wanted, given, path, models, about)
        what = f"{name} has no value" if given is None else f"{name} must be {wanted}, not {shown(given)}"
        return UserError(what, where, fix)
    message = str(error["msg"])
    return UserError(f"{name}: {message[:1].lower()}{message[1:]}", where, about or f"see {SPECIFICATION}")


_LIMITS = {
    "greater_than": "above",
    "greater_than_equal": "at least",
    "less_than": "below",
    "less_than_equal": "at most",
}
_MAPPING = "a mapping of keys"
_WANTED = {
    "int": "a whole number",
    "float": "a number",
    "string": "text",
    "bool": "true or false",
    "tuple": "a list",
    "model": _MAPPING,
    "dict": _MAPPING,
}


def shown(value: Any) -> str:
    """A value of the specification as people would call it; long ones by their kind only."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case str():
            return f"the text '{value}'" if len(value) <= 60 and value.isprintable() else "text"
        case _:
            return f"{value:g}" if isinstance(value, float) else str(value)


def _name(path: Path) -> str:
    return ".".join(map(str, path)) or "the specification"


def _how_to_write(wanted: str, given: Any, path: Path, models: list[type[BaseModel]], about: str) -> str:
    """Show the form that is wanted, with what was given in it where that is what was meant."""
    if isinstance(given, str) and wanted.endswith("number"):
        text = given.strip()
        if text.endswith("%") and _is_number(text[:-1]):
            return f"write {float(text[:-1]) / 100:g}"
        return f"write {text} without quotes" if _is_number(text) else f"write {wanted}"
    if wanted == _MAPPING and (tags := _tags_at(models[-1], path) or _tags_at(models[-2], path)):
        if isinstance(given, str) and (blank := _missing_blank(given, ["kind"])):
            return f"{blank}; known: {', '.join(tags)}"
        chosen = given if given in tags else tags[0]
        key = f"{path[-1]}:" if isinstance(path[-1], str) else "-"
        return f"write `{key} {{kind: {chosen}}}`; known: {', '.join(tags)}"
    keys = list(models[-1].model_fields)
    field = _field(models, path)
    if given is None and wanted == "a list" and field is not None and not field.is_required():
        return f"write `{path[-1]}: []` for none, or remove the key"
    if isinstance(given, str) and wanted == _MAPPING and (blank := _missing_blank(given, keys)):
        return blank
    if given is None and isinstance(path[-1], str):
        inside = f"; known keys: {', '.join(sorted(keys))}" if wanted == _MAPPING else ""
        return f"write a value after `{path[-1]}:`, or remove the key{inside}"
    if "path" in keys and wanted in ("a list", _MAPPING):
        file = given if isinstance(given, str) and given.isprintable() else "FILE"
        return f"write each as `- {{path: {file}, contract: NAME}}`"
    if wanted == "a list" and isinstance(given, int | float | str) and str(given).isprintable():
        return f"write a list: [{given}]"
    return f"write {wanted}: {about}" if about and wanted == "text" else f"write {wanted}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _kind(name: str, where: str, context: Any, tags: list[str], place: str) -> UserError:
    given = context.get("tag")
    if given is None:
        return UserError(f"{name}.kind is missing", where, f"add `kind: {tags[0]}`; known: {', '.join(tags)}")
    return UserError(
        f"{name}.kind: there is no '{given}'", place, f"{nearest(str(given), tags)}known: {', '.join(tags)}"
    )


def _tags_at(model: type[BaseModel], path: Path) -> list[str]:
    names = [part for part in path if isinstance(part, str)]  # the entry of a list is of the list's field
    field = model.model_fields.get(names[-1]) if names else None
    return [tag for m in _models(field.annotation if field else None) if (tag := _tag(m))]


def _unknown_key(path: Path, model: type[BaseModel], root: type[BaseModel], where: str) -> UserError:
    key, tag, known = str(path[-1]), _tag(model), sorted(set(model.model_fields) - INTERNAL)
    whole = "the comparison" if root.__name__.endswith("Comparison") else "the specification"
    owner = f"a setting of '{tag}'" if tag else f"a key of {_name(path[:-1]) if path[1:] else whole}"
    if blank := _missing_blank(key, known):
        return UserError(f"{_name(path)} is not {owner}", where, f"{blank}; known: {', '.join(known)}")
    homes = [] if key in known else [home for home in _homes(key, root) if home != _name(path[:-1])]
    meant = synonym(key)
    if meant in known:
        hint = f"write {meant}; "
    elif homes and len(homes) <= MAX_HOMES:
        hint = f"{key} belongs to {' or '.join(homes)}; "
    else:
        hint = nearest(key, known)
        homes = [] if hint or meant is None else _homes(meant, root)
        hint += f"write {meant} in {homes[0]}; " if homes else ""
    return UserError(f"{_name(path)} is not {owner}", where, f"{hint}known: {', '.join(known)}")


def _missing_blank(text: str, known: Sequence[str]) -> str:
    """How to write `key:value`, which YAML takes for one text, if `key` is one of the known; else nothing."""
    key, colon, value = text.partition(":")
    return f"write `{key}: {value}`, with a blank after the colon" if colon and key in known else ""


def _homes(key: str, model: type[BaseModel], at: str = "") -> list[str]:
    """Where in the specification a key belongs: names of sections, or of kinds."""
    homes = (
        [f"'{_tag(model)}'" if _tag(model) else at or "the top level"] if key in model.model_fields else []
    )
    for name, field in model.model_fields.items():
        for inner in _models(field.annotation):
            homes += _homes(key, inner, f"{at}.{name}" if at else name)
    return homes


def _about(models: list[type[BaseModel]], path: Path) -> str:
    """First sentence of a key's description."""
    field = _field(models, path)
    if field is None or not field.description:
        return ""
    return re.split(r"(?<=\.)\s+(?=[A-Z`\d])", " ".join(field.description.split()))[0]


def _field(models: list[type[BaseModel]], path: Path) -> FieldInfo | None:
    """The field that a path ends in, of the innermost model that has it."""
    name = str(path[-1]) if path else ""
    return next((model.model_fields[name] for model in reversed(models) if name in model.model_fields), None)


def _combination(message: str, path: Path, document: Document) -> list[UserError]:
    """A validator's message may name several places, one `key: what; fix` a line (the key is optional below a path)."""
    errors = []
    for line in message.splitlines():
        key, sign, text = line.partition(": ")
        if path or not sign:
            key, text, place = _name(path), line, document.place(path)
        else:
            place = document.place(tuple(int(part) if part.isdigit() else part for part in key.split(".")))
        what, _, fix = text.partition("; ")
        errors.append(UserError(f"{key}: {what}", place, fix or f"change it, or see {SPECIFICATION}"))
    return errors
