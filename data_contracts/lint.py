"""Check a contract file: the Open Data Contract Standard's own schema first, then what this project can enforce."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path as FilePath
from typing import Any, get_args

from pydantic import BaseModel

from data_contracts.rule_kinds import DUPLICATES, nearest
from data_contracts.rules import read_rules
from schemas.errors import UserError, UserErrors
from schemas.reading.file_kinds import other_kind
from schemas.reading.yaml_reader import Document, Path, read_yaml

JSON_TYPES = {
    "string": "text (quote dates and numbers)",
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "array": "a list",
    "object": "a mapping of keys",
    "null": "nothing",
}
Wrong = Callable[..., UserError]
VERSIONS = ("v3.1.0", "v3.2.0")
MAX_QUARANTINED = "maxQuarantinedRatio"
TYPES = {
    "text": ("string",),
    "group": ("string", "integer"),
    "label": ("string",),  # of a labelled text
    "tags": ("string",),  # of tagged words: one a word, a blank between; text is the words, likewise
    "prompt": ("string",),  # of instructions; text is prompt, context and response, a blank line between
    "response": ("string",),
    "context": ("string",),  # empty where there is none
}
"""Column -> logical types a validated row can have there."""
PROMISES = {
    "unique": DUPLICATES,
    "primaryKey": "remove it: a row is known by its file and line",
    "logicalTypeOptions": "write a quality rule, such as expect_column_value_lengths_to_be_between",
    "enum": "write a quality rule: expect_column_values_to_be_in_set",
    "relationships": "remove it: a contract here speaks of one dataset",
    "properties": "remove it: a column holds plain text",
    "items": "remove it: a column holds plain text",
    "map": "remove it: a column holds plain text",
}
"""Keys of a property that promise something nothing would check -> what to do instead."""


def lint(path: FilePath) -> list[UserError]:
    """Every mistake of a contract file, in the order of its lines; none means `load_contract` accepts it."""
    try:
        document = read_yaml(path)
    except UserErrors as errors:
        return errors.errors
    return lint_document(document, path)


def lint_document(document: Document, path: FilePath) -> list[UserError]:
    """The same for a document already read."""
    if not isinstance(document.value, dict):
        return [UserError("a contract is a mapping of keys", f"{path}:1", "start with `apiVersion: v3.1.0`")]
    if other := other_kind(document.value, "contract", path):
        return [other]
    errors = [*_unknown_keys(document), *_standard(document)]
    errors += [*_ours(document), *read_rules(document)[1]]
    unique = {(error.what, error.where): error for error in errors}
    return sorted(unique.values(), key=lambda error: int(error.where.rpartition(":")[2]))


def _unknown_keys(document: Document) -> Iterator[UserError]:
    """Keys that the standard does not know, with the nearest one it does."""
    from open_data_contract_standard.model import OpenDataContractStandard

    for path, keys in _strangers(document.value, OpenDataContractStandard, ()):
        key = str(path[-1])
        owner = dotted(path[:-1]) or "a contract"
        fix = f"{nearest(key, keys)}known: {', '.join(sorted(keys))}"
        yield UserError(f"{key} is not a key of {owner}", document.place(path), fix)


def _strangers(value: Any, model: type[BaseModel], path: Path) -> Iterator[tuple[Path, list[str]]]:
    fields = {field.alias or name: field.annotation for name, field in model.model_fields.items()}
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _strangers(item, model, (*path, index))
    elif isinstance(value, dict):
        for key, item in value.items():
            if key not in fields:
                yield (*path, key), list(fields)
            else:
                for inner in _models(fields[key])[-1:]:
                    yield from _strangers(item, inner, (*path, key))


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


def _standard(document: Document) -> Iterator[UserError]:
    """What the standard's own JSON Schema says against the file."""
    from jsonschema import Draft201909Validator
    from open_data_contract_standard.model import OpenDataContractStandard

    schema = json.loads(OpenDataContractStandard.json_schema())
    for error in Draft201909Validator(schema).iter_errors(document.value):
        leaf = error
        while leaf.context:
            leaf = max(leaf.context, key=lambda inner: len(inner.absolute_path))
        if leaf.validator not in ("additionalProperties", "unevaluatedProperties"):  # told by _unknown_keys
            yield _told(leaf, document)


def _told(error: Any, document: Document) -> UserError:
    path: Path = tuple(error.absolute_path)
    name, where = dotted(path) or "the contract", document.place(path)
    if error.validator == "required":
        key = next(key for key in error.validator_value if key not in error.instance)
        return UserError(f"{dotted((*path, key))} is missing", where, f"add `{key}: ...`")
    if error.validator == "enum":
        allowed = [str(value) for value in error.validator_value]
        given = str(error.instance)
        fix = f"{nearest(given, allowed)}allowed: {', '.join(allowed)}"
        return UserError(f"{name} cannot be '{given}'", where, fix)
    if error.validator == "type":
        wanted = error.validator_value
        names = [JSON_TYPES[kind] for kind in ([wanted] if isinstance(wanted, str) else wanted)]
        return UserError(f"{name} has the wrong type", where, f"write {' or '.join(names)}")
    if error.validator == "pattern":
        return UserError(f"{name} cannot be '{error.instance}'", where, f"match {error.validator_value}")
    return UserError(f"{name}: {error.message}", where, "see the Open Data Contract Standard v3.1")


def _ours(document: Document) -> Iterator[UserError]:
    """What this project needs beyond the standard."""
    value = document.value

    def wrong(*path: str | int, what: str, fix: str) -> UserError:
        return UserError(what, document.place(path), fix)

    if value.get("kind", "DataContract") != "DataContract":
        yield wrong("kind", what=f"kind cannot be '{value['kind']}'", fix="write kind: DataContract")
    if value.get("apiVersion", VERSIONS[0]) not in VERSIONS:
        what = f"apiVersion cannot be '{value['apiVersion']}'"
        yield wrong("apiVersion", what=what, fix=f"allowed: {', '.join(VERSIONS)}")
    if "status" not in value:
        yield wrong(what="status is missing", fix="add `status: active`")
    tables = value.get("schema")
    if not isinstance(tables, list) or len(tables) != 1:
        fix = "write `schema:` with one `- name: ...` below it"
        second = (1,) if isinstance(tables, list) and len(tables) > 1 else ()
        yield wrong("schema", *second, what="schema must describe exactly one dataset", fix=fix)
    for index, table in enumerate(tables if isinstance(tables, list) else ()):
        yield from _table(table, ("schema", index), wrong)
    items = value.get("customProperties")
    for index, item in enumerate(items if isinstance(items, list) else ()):
        if isinstance(item, dict):
            yield from _custom_property(item, ("customProperties", index), wrong)


def _table(table: Any, at: Path, wrong: Wrong) -> Iterator[UserError]:
    properties = table.get("properties") if isinstance(table, dict) else None
    columns = [item for item in properties if isinstance(item, dict)] if isinstance(properties, list) else []
    names = [str(column.get("name")) for column in columns]
    if "text" not in names:
        fix = "add `- {name: text, logicalType: string, required: true}`"
        yield wrong(*at, "properties", what="no property is called text", fix=fix)
    if "label" in names and "tags" in names:
        fix = "keep label (one a text) or tags (one a word)"
        yield wrong(*at, "properties", what="no row has both label and tags", fix=fix)
    if "prompt" in names and {"label", "tags"} & set(names):
        fix = "keep prompt and response, or the label or tags"
        yield wrong(*at, "properties", what="no row has both a prompt and labels", fix=fix)
    if ("prompt" in names) != ("response" in names) or ("context" in names and "prompt" not in names):
        fix = "describe both, `prompt` and `response`"
        yield wrong(*at, "properties", what="an instruction has a prompt and a response", fix=fix)
    for index, (name, column) in enumerate(zip(names, columns, strict=True)):
        here = (*at, "properties", index)
        if name not in TYPES:
            fix = f"{nearest(name, TYPES)}known: {', '.join(TYPES)}"
            yield wrong(*here, "name", what=f"rows have no column '{name}'", fix=fix)
        elif name in names[:index]:
            yield wrong(*here, "name", what=f"the property {name} is given twice", fix="keep one")
        elif (kind := column.get("logicalType")) not in TYPES[name]:
            fix = f"write logicalType: {' or '.join(TYPES[name])}"
            yield wrong(*here, "logicalType", what=f"{name} cannot have logicalType '{kind}'", fix=fix)
        for key in PROMISES:
            if column.get(key):
                yield wrong(*here, key, what=f"{key} on {name} is checked by nothing", fix=PROMISES[key])


def _custom_property(item: dict[str, Any], at: Path, wrong: Wrong) -> Iterator[UserError]:
    name, value = str(item.get("property")), item.get("value")
    if name != MAX_QUARANTINED:
        fix = f"{nearest(name, [MAX_QUARANTINED])}known: {MAX_QUARANTINED}"
        yield wrong(*at, "property", what=f"the custom property {name} has no effect", fix=fix)
    elif isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        yield wrong(*at, "value", what=f"{name} is not a share of rows", fix="write a number from 0 to 1")


def dotted(path: Sequence[str | int]) -> str:
    """`schema.0.properties.1.name`"""
    return ".".join(map(str, path))
