"""Turn Pydantic's errors into the three lines people read."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from schemas.errors import UserError
from schemas.yaml_reader import Document, Path


def explain(errors: Sequence[Any], root: type[BaseModel], document: Document) -> list[UserError]:
    """Explain each error at its place in the document, in the order of the file's lines."""
    explained: list[UserError] = []
    for error in errors:
        path, models = _walk(error["loc"], root, document.value)
        if error["type"] == "value_error":
            explained += _combination(str(error["ctx"]["error"]), path, document)
        else:
            explained.append(_one(error, path, models, root, document))
    return explained


def _walk(loc: Sequence[str | int], root: type[BaseModel], value: Any) -> tuple[Path, list[type[BaseModel]]]:
    """Drop union tags from `loc`; return the path in the file and the models met on the way."""
    path: list[str | int] = []
    candidates: list[Any] = [root]
    models: list[type[BaseModel]] = [root]
    for index, part in enumerate(loc):
        model = models[-1]
        tag_of = [m for c in candidates for m in _models(c) if _tag(m) == part]
        if tag_of and not (
            isinstance(value, dict) and part in value and index == len(loc) - 1 and part in model.model_fields
        ):
            models.append(tag_of[0])
            candidates = [tag_of[0]]
            continue
        if part in ("model", "from_scratch") and not (isinstance(value, dict) and part in value):
            continue  # the tags of `base`
        if part == "from_scratch" and index + 1 < len(loc) and loc[index + 1] == "from_scratch":
            candidates = [m for c in candidates for m in _models(c)]
            models += candidates[-1:]
            continue
        path.append(part)
        value = value[part] if _has(value, part) else None
        if isinstance(part, str) and part in models[-1].model_fields:
            candidates = [models[-1].model_fields[part].annotation]
        found = [m for c in candidates for m in _models(c)]
        if (isinstance(part, str) and part in models[-1].model_fields and len(found) == 1) or (isinstance(part, int) and len(found) == 1):
            models.append(found[0])
    return tuple(path), models


def _has(value: Any, part: str | int) -> bool:
    if isinstance(value, dict):
        return part in value
    return isinstance(value, list) and isinstance(part, int) and part < len(value)


def _models(annotation: Any) -> list[type[BaseModel]]:
    """Every model class inside an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated, tuple, list):
        return [model for part in get_args(annotation) for model in _models(part)]
    return []


def _tag(model: type[BaseModel]) -> str | None:
    kind = model.model_fields.get("kind")
    return str(kind.default) if kind is not None else None


def _one(
    error: Any, path: Path, models: list[type[BaseModel]], root: type[BaseModel], document: Document
) -> UserError:
    name = ".".join(map(str, path))
    where = document.place(path)
    kind = error["type"]
    context = error.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(path, models[-1], root, where)
    if kind == "missing":
        return UserError(
            f"{name} is missing", document.place(path[:-1]), f"add `{path[-1]}: ...`{_about(models, path)}"
        )
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        allowed = [tag.strip().strip("'") for tag in str(context.get("expected_tags", "")).split(",") if tag]
        allowed = allowed or _tags_at(models[-1], path)
        if kind == "union_tag_not_found":
            return UserError(f"{name}.kind is missing", where, f"add kind; known: {', '.join(allowed)}")
        given = str(context.get("tag", ""))
        return UserError(
            f"{name}.kind: there is no '{given}'",
            document.place((*path, "kind")),
            f"{_nearest(given, allowed)}known: {', '.join(allowed)}",
        )
    if kind == "literal_error":
        allowed = [text.strip("' ") for text in str(context["expected"]).replace(" or ", ", ").split(",")]
        given = str(error["input"])
        return UserError(
            f"{name} cannot be '{given}'", where, f"{_nearest(given, allowed)}allowed: {', '.join(allowed)}"
        )
    message = str(error["msg"])
    return UserError(
        f"{name}: {message[0].lower()}{message[1:]}", where, _range_hint(kind, context, error["input"])
    )


def _range_hint(kind: str, context: Any, value: Any) -> str:
    limits = {
        "greater_than": "above",
        "greater_than_equal": "at least",
        "less_than": "below",
        "less_than_equal": "at most",
    }
    if kind in limits:
        limit = next(iter(context.values()))
        return f"write a number {limits[kind]} {limit}"
    if kind == "string_pattern_mismatch":
        return f"write text that matches {context['pattern']}"
    if kind.endswith(("_type", "_parsing", "_from_float")):
        wanted = {
            "int": "a whole number",
            "float": "a number",
            "string": "text",
            "bool": "true or false",
            "tuple": "a list",
            "model": "a mapping of keys",
            "dict": "a mapping of keys",
        }
        return f"write {wanted.get(kind.split('_')[0], 'another type')}, not {_yaml_type(value)}"
    return "see docs/specification.md"


def _yaml_type(value: Any) -> str:
    names = {
        dict: "a mapping",
        list: "a list",
        str: "text",
        bool: "true/false",
        int: "a number",
        float: "a number",
    }
    return names.get(type(value), "nothing" if value is None else type(value).__name__)


def _unknown_key(path: Path, model: type[BaseModel], root: type[BaseModel], where: str) -> UserError:
    key = str(path[-1])
    known = sorted(model.model_fields)
    tag = _tag(model)
    owner = (
        f"a setting of '{tag}'"
        if tag
        else ("a key of the specification" if model is root else f"a key of {'.'.join(map(str, path[:-1]))}")
    )
    hint = _nearest(key, known, model)
    if not hint and tag:
        others = [str(_tag(m)) for m in _siblings(root, path) if key in m.model_fields and m is not model]
        hint = f"{key} belongs to {', '.join(others)}; " if others else ""
    return UserError(f"{'.'.join(map(str, path))} is not {owner}", where, f"{hint}known: {', '.join(known)}")


def _siblings(root: type[BaseModel], path: Path) -> list[type[BaseModel]]:
    field = root.model_fields.get(str(path[0]))
    return _models(field.annotation) if field else []


def _tags_at(model: type[BaseModel], path: Path) -> list[str]:
    field = model.model_fields.get(str(path[-1])) if path else None
    return [tag for m in _models(field.annotation if field else None) if (tag := _tag(m))]


SYNONYMS = {
    "rank": "r", "lora_r": "r", "lora_alpha": "alpha", "lora_dropout": "dropout", "lr": "learning_rate",
    "max_steps": "steps", "num_train_epochs": "epochs", "num_epochs": "epochs", "max_length": "sequence_length",
    "max_seq_length": "sequence_length", "cutoff_len": "sequence_length", "batch_size": "batch_tokens",
    "model": "base", "base_model": "base", "model_name_or_path": "base", "dataset": "domain", "datasets": "domain",
    "data": "domain", "file": "path", "files": "path", "warmup": "warmup_ratio", "lr_scheduler_type": "schedule",
}  # what the neighbours call it  # fmt: skip


def _nearest(given: str, known: Sequence[str], model: type[BaseModel] | None = None) -> str:
    synonym = SYNONYMS.get(given)
    if model is not None and synonym in model.model_fields:
        return f"write {synonym}; "
    near = difflib.get_close_matches(given, known, 1)
    return f"did you mean {near[0]}? " if near else ""


def _about(models: list[type[BaseModel]], path: Path) -> str:
    for model in reversed(models):
        field = model.model_fields.get(str(path[-1]))
        if field is not None and field.description:
            return f"  ({field.description.splitlines()[0]})"
    return ""


def _combination(message: str, path: Path, document: Document) -> list[UserError]:
    """A validator's message may name several places, one `key: text` a line."""
    errors = []
    for line in message.splitlines():
        key, sign, text = line.partition(": ")
        if path or not sign:
            name = ".".join(map(str, path))
            errors.append(
                UserError(
                    f"{name}: {line}" if name else line, document.place(path), "see docs/specification.md"
                )
            )
            continue
        parts: Path = tuple(int(part) if part.isdigit() else part for part in key.split("."))
        what, _, fix = text.partition("; ")
        errors.append(UserError(f"{key}: {what}", document.place(parts), fix or "change one of the two"))
    return errors
