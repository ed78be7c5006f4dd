"""Read YAML into plain values while remembering the line of every key.

ruamel's node tree is used, not its objects: no tag is ever constructed, and duplicate keys are all found.
"""

from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

from schemas.errors import UserError, UserErrors

Path = tuple[str | int, ...]


@dataclass
class Document:
    """Plain values of a YAML file and the place (`file:line`) of every path in it."""

    value: Any
    places: dict[Path, str] = field(default_factory=dict)

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
    text = _read_text(file)
    return parse_yaml(text, str(file))


def _read_text(file: FilePath) -> str:
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise UserErrors(
            [
                UserError(
                    f"cannot read the file: {error.strerror}", str(file), "check the path and its permissions"
                )
            ]
        ) from None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UserErrors(
            [
                UserError(
                    "the file is not UTF-8",
                    f"{file}:{line}",
                    "save it as UTF-8 (no other encoding is read here)",
                )
            ]
        ) from None


def parse_yaml(text: str, name: str) -> Document:
    """Parse YAML text; `name` is what places are called after."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    yaml = YAML(typ="safe", pure=True)
    try:
        node = yaml.compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = (mark.line + 1) if mark else 1
        what = f"not valid YAML: {error.problem or error.context}"
        raise UserErrors(
            [
                UserError(
                    what,
                    f"{name}:{line}",
                    "check indentation, colons and quotes on this line and the one before",
                )
            ]
        ) from None
    except YAMLError as error:
        raise UserErrors(
            [UserError(f"not valid YAML: {error}", f"{name}:1", "save it as plain UTF-8 text")]
        ) from None
    document = Document(value=None)
    errors: list[UserError] = []
    document.value = _plain(node, (), document, errors, name, yaml)
    if errors:
        raise UserErrors(errors)
    return document


def _plain(node: Any, path: Path, document: Document, errors: list[UserError], name: str, yaml: Any) -> Any:
    """Turn a node into dicts, lists and scalars, noting places on the way."""
    if node is None:
        return None
    place = f"{name}:{node.start_mark.line + 1}"
    document.places.setdefault(path, place)
    if not str(node.tag).startswith("tag:yaml.org,2002:"):
        errors.append(UserError(f"the tag {node.tag} is not allowed", place, "write plain values only"))
        return None
    if hasattr(node, "value") and isinstance(node.value, list):
        if (node.value and isinstance(node.value[0], tuple)) or str(node.tag).endswith(":map"):
            return _plain_mapping(node, path, document, errors, name, yaml)
        return [
            _plain(item, (*path, index), document, errors, name, yaml)
            for index, item in enumerate(node.value)
        ]
    try:
        return yaml.constructor.construct_object(node)
    except (ValueError, TypeError) as error:
        errors.append(UserError(f"cannot read this value: {error}", place, "quote it if it is text"))
        return None


def _plain_mapping(
    node: Any, path: Path, document: Document, errors: list[UserError], name: str, yaml: Any
) -> Any:
    mapping: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        key = str(key_node.value)
        here = (*path, key)
        if key in mapping:
            errors.append(
                UserError(
                    f"{'.'.join(map(str, here))} is given twice",
                    f"{name}:{line}",
                    f"keep one; the first is at {document.places[here]}",
                )
            )
            continue
        document.places[here] = f"{name}:{line}"
        mapping[key] = _plain(value_node, here, document, errors, name, yaml)
    return mapping
