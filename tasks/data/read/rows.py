"""What a reader hands over: a row's place and its fields, or why the row cannot be read."""

from typing import Any, NamedTuple

from schemas.spec.records import ReasonCode


class Refusal(NamedTuple):
    """Why a row is refused. `detail` says what is wrong with it, never what is in it."""

    code: ReasonCode
    detail: str


Row = tuple[int, int | None, dict[str, Any] | Refusal]
"""Line where the row starts (1-based), its byte offset in the decompressed file if known, its fields."""

TOO_LONG = Refusal(ReasonCode.LINE_TOO_LONG, "longer than 16 MiB")
UNCLOSED = Refusal(ReasonCode.UNCLOSED_QUOTE, "a quote opened on this line is not closed")


def decode(raw: bytes, encoding: str) -> str | Refusal:
    """Decode one row's bytes."""
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding == "utf-8" and _has_surrogates_only(raw):
            return Refusal(ReasonCode.LONE_SURROGATE, "a surrogate code point is encoded by itself")
        return Refusal(ReasonCode.UNDECODABLE, f"byte {error.start} of the row is not {encoding}")
    except UnicodeError:
        return Refusal(ReasonCode.UNDECODABLE, f"not {encoding}")


def pick(value: Any, columns: dict[str, str | int]) -> dict[str, Any] | Refusal:
    """Take a record's fields from a parsed JSON value; `columns` maps field to key, or is empty for all keys."""
    if type(value) is not dict:
        return Refusal(ReasonCode.NOT_AN_OBJECT, "not a JSON object")
    if not columns:
        return value
    return {field: value[key] for field, key in columns.items() if key in value}


def _has_surrogates_only(raw: bytes) -> bool:
    try:
        raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True
