"""Check one row's fields against its record: the row as it is stored, or why it is refused (never what is in it)."""

from collections.abc import Callable
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from schemas.spec.records import Instruction, LabeledText, ReasonCode, RecordKind, TaggedTokens, Text
from tasks.data.read.entity_tags import to_iob2, types_of
from tasks.data.read.rows import Refusal
from tasks.data.read.shards import Shard
from tasks.data.validate.digest import text_digest

_NUL = Refusal(ReasonCode.NUL_CHARACTER, "the text holds a NUL character")
_REASONS = {
    "missing": (ReasonCode.MISSING_FIELD, "missing"),
    "string_pattern_mismatch": (ReasonCode.EMPTY_TEXT, "empty or white space"),
    "too_short": (ReasonCode.EMPTY_TEXT, "an empty list"),
    "string_unicode": (ReasonCode.LONE_SURROGATE, "holds a lone surrogate"),
}


class Checked(NamedTuple):
    """An accepted row."""

    text: str
    group: str | int | None
    extra: tuple[Any, ...] = ()
    """Values of the columns that its record has besides (Record.stored)."""


Check = Callable[[dict[str, Any]], Checked | Refusal]


def make_check(shard: Shard) -> Check:
    """The check for the rows of a shard, by its kind of record."""
    return CHECKS[shard.record](shard)


def _text(_: Shard) -> Check:
    validate = TypeAdapter(Text).validator.validate_python

    def check(fields: dict[str, Any]) -> Checked | Refusal:
        try:
            row = validate(fields)
        except ValidationError as error:
            return _explain(error)
        return _whole(row.text, row.group, ())

    return check


def _labeled_text(shard: Shard) -> Check:
    validate = TypeAdapter(LabeledText).validator.validate_python
    known = None if shard.labels is None else set(shard.labels)

    def check(fields: dict[str, Any]) -> Checked | Refusal:
        try:
            row = validate(fields)
        except ValidationError as error:
            return _explain(error)
        label = str(row.label).strip()
        if known is not None and label not in known:
            return Refusal(ReasonCode.UNKNOWN_LABEL, "label: not among objective.labels")
        return _whole(row.text, row.group, (label,))

    return check


def _tagged_tokens(shard: Shard) -> Check:
    validate = TypeAdapter(TaggedTokens).validator.validate_python
    known = None if shard.labels is None else set(shard.labels)

    def check(fields: dict[str, Any]) -> Checked | Refusal:
        try:
            row = validate(fields)
        except ValidationError as error:
            return _explain(error)
        if len(row.tokens) != len(row.tags):
            detail = f"{len(row.tokens)} tokens, {len(row.tags)} tags"
            return Refusal(ReasonCode.LENGTH_MISMATCH, detail)
        tags = to_iob2(row.tags, shard.scheme)
        if isinstance(tags, str):
            return Refusal(ReasonCode.BAD_TAG, f"in {shard.scheme}: {tags}")
        if known is not None and not types_of(tags) <= known:
            return Refusal(ReasonCode.UNKNOWN_LABEL, "tags: an entity type is not among objective.labels")
        return _whole(" ".join(row.tokens), row.group, (row.tokens, tags))

    return check


def _instruction(_: Shard) -> Check:
    validate = TypeAdapter(Instruction).validator.validate_python

    def check(fields: dict[str, Any]) -> Checked | Refusal:
        try:
            row = validate(fields)
        except ValidationError as error:
            return _explain(error)
        prompt, response, context = row.prompt.strip(), row.response.strip(), (row.context or "").strip()
        asked = "\n\n".join(filter(None, (prompt, context)))
        return _whole(f"{asked}\n\n{response}", row.group, (prompt, response, context, text_digest(asked)))

    return check


CHECKS: dict[RecordKind, Callable[[Shard], Check]] = {
    "text": _text,
    "labeled_text": _labeled_text,
    "tagged_tokens": _tagged_tokens,
    "instruction": _instruction,
}


def _whole(text: str, group: str | int | None, extra: tuple[Any, ...]) -> Checked | Refusal:
    """The row, unless a character in it cannot be stored."""
    for name, value in (
        ("group", group),
        *(("label", v) for e in extra if type(e) is not bytes for v in ([e] if type(e) is str else e)),
    ):
        if isinstance(value, str) and not value.isascii() and not _is_unicode(value):
            return Refusal(ReasonCode.LONE_SURROGATE, f"{name}: holds a lone surrogate")
    if "\x00" in text or any("\x00" in value for value in extra if type(value) is str):
        return _NUL
    return Checked(text, None if group == "" else group, extra)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _explain(error: ValidationError) -> Refusal:
    """The first error's code, and which field it is about: never the value."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    code, problem = _REASONS.get(first["type"], (ReasonCode.WRONG_TYPE, "not of the right type"))
    if code is ReasonCode.EMPTY_TEXT and first["loc"][0] == "label":
        code = ReasonCode.EMPTY_LABEL
    return Refusal(code, f"{first['loc'][0]}: {problem}")
