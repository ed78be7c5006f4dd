"""Read YAML into plain values while remembering the line of every key.

ruamel's node tree is used, not its objects: no tag is ever constructed, and duplicate keys are all found.
"""

import difflib
import os
import re
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

from schemas.errors import UserError, UserErrors
from schemas.paths.file_names import kind_of, unfit_name

Path = tuple[str | int, ...]

MAX_DEPTH = 40
MAX_BYTES = 4 * 2**20
"""Of a file: those that people write have kilobytes, those of a run with very many files a megabyte."""
MAX_VALUES = 100_000
"""Values in all, aliases expanded: nine lines of aliases to aliases would otherwise be a billion."""
_CORE = "tag:yaml.org,2002:"
_SCALARS = {_CORE + kind for kind in ("str", "int", "float", "bool", "null")}
_DATE = _CORE + "timestamp"


TOO_MANY = "write fewer values: data belongs in files of its own"


@dataclass
class Document:
    """Plain values of a YAML file and the place (`file:line`) of every path in it."""

    value: Any
    places: dict[Path, str] = field(default_factory=dict)
    errors: list[UserError] = field(default_factory=list)
    """Mistakes that leave the rest of the file readable: repeated keys, tags."""

    def place(self, path: Path) -> str:
        """Return the place of the longest known prefix of `path`."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, "the specification")


def read_yaml(file: FilePath) -> Document:
    """Parse one YAML file.

    Raises:
        UserErrors: the file is missing, not UTF-8, not YAML, has a tag, or repeats a key; all of them at once.
    """
    return _flawless(survey_yaml(file))


def survey_yaml(file: FilePath) -> Document:
    """Parse one YAML file; mistakes that leave it readable are in the document's `errors`.

    Raises:
        UserErrors: the file is missing, not UTF-8, or not YAML.
    """
    return _compose(_read_text(file), str(file))


def parse_yaml(text: str, name: str) -> Document:
    """Parse YAML text; `name` is what places are called after.

    Raises:
        UserErrors: all mistakes of the text.
    """
    return _flawless(_compose(text, name))


def _flawless(document: Document) -> Document:
    if document.errors:
        raise UserErrors(document.errors)
    return document


def _failed(what: str, where: str, fix: str) -> UserErrors:
    return UserErrors([UserError(what, where, fix)])


def _read_text(file: FilePath) -> str:
    try:
        if (unfit := unfit_name(file)) is not None and os.path.lexists(file):
            raise UserErrors([unfit])
        kind = kind_of(file) if file.exists() else None
        if kind is not None:  # before it is opened: a pipe would wait, a device has no end
            raise _failed(f"this is {kind}, not a file", str(file), "name one YAML file")
        with file.open("rb") as opened:
            raw = opened.read(MAX_BYTES + 1)
    except OSError as error:
        what = f"cannot read the file: {error.strerror}"
        near = _near(file) if isinstance(error, FileNotFoundError) else None
        fix = f"did you mean {near}?" if near else "check the path and its permissions"
        raise _failed(what, str(file), fix) from None
    if len(raw) > MAX_BYTES:
        what = f"the file is larger than {MAX_BYTES >> 20} MiB: no specification is"
        raise _failed(what, str(file), "name one YAML file; data belongs in files of its own")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        fix = "save it as UTF-8 (no other encoding is read here)"
        raise _failed("the file is not UTF-8", f"{file}:{line}", fix) from None


def _near(file: FilePath) -> FilePath | None:
    """A YAML file that was probably meant: its folder's nearest by name, or one below runs/."""
    if not file.name:
        return None
    beside = {other.name: other for other in file.parent.glob("*.y*ml")}
    there = {other.name: other for other in FilePath("runs").glob("*.yaml")}
    for name in (file.name, f"{file.stem}.yaml"):
        for known in (beside, there):
            if found := difflib.get_close_matches(name, known, 1, cutoff=0.8):
                return known[found[0]]
    return None


def _compose(text: str, name: str) -> Document:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError
    from ruamel.yaml.reader import ReaderError

    yaml = YAML(typ="safe", pure=True)
    yaml.Composer = _counting(name)
    try:
        node = yaml.compose(text)
    except MarkedYAMLError as error:
        raise _syntax(error, text, name) from None
    except ReaderError as error:
        what = f"not a text file: it holds the character {_code(error.character)}"
        line = text.count("\n", 0, error.position) + 1
        raise _failed(what, f"{name}:{line}", "save it as plain UTF-8 text") from None
    except RecursionError:
        raise _failed(
            "nested too deeply", f"{name}:{_deep_line(text)}", f"at most {MAX_DEPTH} levels"
        ) from None
    except (ValueError, OverflowError) as error:  # an escape or a directive that means nothing
        raise _failed(f"not valid YAML: {error}", f"{name}:1", "write plain values") from None
    document = Document(value=None)
    document.value = _Reader(document, name).plain(node, ())
    return document


def _counting(name: str) -> Any:
    """A composer that stops at the first value too many, long before the end of a huge file."""
    from ruamel.yaml.composer import Composer

    class Counting(Composer):
        nodes = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            self.nodes += 1
            if self.nodes > MAX_VALUES:
                line = self.parser.peek_event().start_mark.line + 1
                raise _failed(f"more than {MAX_VALUES:,} values", f"{name}:{line}", TOO_MANY)
            return super().compose_node(parent, index)

    return Counting


def _syntax(error: Any, text: str, name: str) -> UserErrors:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else 1
    problem = error.problem or error.context
    fix = "check indentation, colons and quotes on this line and the one before"
    if problem == "but found another document":
        problem, fix = "a second document begins here", "remove this `---`: one file is one document"
    elif "'\\t'" in problem:
        problem, fix = "a tab stands where only spaces may", "indent with spaces"
    elif "undefined alias" in problem:
        fix = "quote the value if it begins with *, or define the anchor (&name) first"
    elif error.context_mark and error.context_mark.line + 1 < line and "flow" in str(error.context):
        problem += f"; the bracket opened on line {error.context_mark.line + 1} is not closed"
    elif error.context_mark and "quoted scalar" in str(error.context):
        line, problem = error.context_mark.line + 1, "a quote opened here is not closed"
        fix = "close the quote on this line"
    elif joined := _joined(text.splitlines(), line):
        line, key, value = joined
        problem, fix = f"{key}:{value} is one text", f"write `{key}: {value}`, with a blank after the colon"
    return _failed(f"not valid YAML: {problem}", f"{name}:{min(line, text.count(chr(10)) + 1)}", fix)


def _joined(lines: list[str], line: int) -> tuple[int, str, str] | None:
    """Line, key and value of the nearest `key:value` at or before a line (counted from 1) where a `key: value` was expected."""
    for number in (line, line - 1):
        written = lines[number - 1] if 0 < number <= len(lines) else ""
        if found := re.fullmatch(r"\s*(?:- +)?(\w+):([^\s:/]+)", written.partition(" #")[0].rstrip()):
            return number, found[1], found[2]
    return None


def _code(character: Any) -> str:
    return f"U+{character if isinstance(character, int) else ord(character):04X}"


def _deep_line(text: str) -> int:
    """Line on which the nesting passes MAX_DEPTH."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError
    from ruamel.yaml.events import CollectionEndEvent, CollectionStartEvent

    depth = line = 0
    try:
        for event in YAML(typ="safe", pure=True).parse(text):
            line = int(event.start_mark.line) + 1
            depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
            if depth > MAX_DEPTH:
                return line
    except (YAMLError, RecursionError):
        pass
    return max(line, 1)


class _Reader:
    """Turns nodes into dicts, lists and scalars, noting places and mistakes on the way."""

    def __init__(self, document: Document, name: str):
        from ruamel.yaml import YAML

        self.document, self.name = document, name
        self.construct = YAML(typ="safe", pure=True).constructor.construct_object
        self.open: list[int] = []
        self.values = 0
        self.seen: set[int] = set()
        self.aliased = False
        """Whether a node has been met twice."""

    def error(self, what: str, node: Any, fix: str) -> None:
        self.document.errors.append(UserError(what, f"{self.name}:{node.start_mark.line + 1}", fix))

    def plain(self, node: Any, path: Path) -> Any:
        """The plain value of a node; None where it has none (the mistake is noted)."""
        from ruamel.yaml.nodes import MappingNode

        if node is None:
            return None
        place = f"{self.name}:{node.start_mark.line + 1}"
        self.document.places.setdefault(path, place)
        self.values += 1
        self.aliased = self.aliased or id(node) in self.seen
        self.seen.add(id(node))
        if self.values > MAX_VALUES:
            fix = "write fewer aliases (*name)" if self.aliased else TOO_MANY
            raise _failed(f"more than {MAX_VALUES:,} values", place, fix)
        if not isinstance(node.value, list):
            return self.scalar(node)
        is_mapping = isinstance(node, MappingNode)
        if str(node.tag) != _CORE + ("map" if is_mapping else "seq"):
            return self.error(_tag(node), node, "write plain values only")
        if id(node) in self.open:
            return self.error("this value contains itself", node, "remove the alias (*name) inside it")
        if len(self.open) >= MAX_DEPTH:
            return self.error("nested too deeply", node, f"at most {MAX_DEPTH} levels")
        self.open.append(id(node))
        if is_mapping:
            value: Any = self.mapping(node, path)
        else:
            value = [self.plain(item, (*path, index)) for index, item in enumerate(node.value)]
        self.open.pop()
        return value

    def scalar(self, node: Any) -> Any:
        if str(node.tag) == _DATE:  # nothing here is a date, but a name or path may look like one
            return str(node.value)
        if str(node.tag) not in _SCALARS:
            return self.error(_tag(node), node, "write plain values only, or quote the text")
        try:
            value = self.construct(node)
        except (ValueError, TypeError, LookupError):
            kind = str(node.tag).removeprefix(_CORE)
            return self.error(f"this is not a value of type {kind}", node, "quote it if it is text")
        if isinstance(value, str) and not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
            return self.error("half of a surrogate pair is no text", node, "write the character itself")
        return value

    def mapping(self, node: Any, path: Path) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if isinstance(key_node.value, list):
                self.error(
                    "a key must be plain text",
                    key_node,
                    "quote a value that begins with { or [; write `key: value`",
                )
                continue
            key = str(key_node.value)
            here = (*path, key)
            if str(key_node.tag).endswith(":merge"):
                self.error(
                    "the merge key << is not read here", key_node, "repeat the keys, or alias a whole value"
                )
            elif key in mapping:
                first = self.document.places[here].rpartition(":")[2]
                name = ".".join(map(str, here))
                self.error(f"{name} is given twice", key_node, f"keep one; the first is on line {first}")
            else:
                self.document.places[here] = f"{self.name}:{key_node.start_mark.line + 1}"
                mapping[key] = self.plain(value_node, here)
        return mapping


def _tag(node: Any) -> str:
    tag = str(node.tag)
    return f"the tag {'!!' + tag.removeprefix(_CORE) if tag.startswith(_CORE) else tag} is not allowed"
