"""Load a run specification: every mistake of the file at once, each with its line and its remedy."""

from __future__ import annotations

import difflib
import glob
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from schemas.errors import UserError, UserErrors
from schemas.explain import explain
from schemas.run import RunSpec
from schemas.sources import Source
from schemas.yaml_reader import Document, parse_yaml, read_yaml

_HUB_ID = re.compile(r"^[\w.-]+/[\w.-]+$")


def load_spec(file: Path, overrides: Sequence[str] = (), contracts: Iterable[str] = ()) -> RunSpec:
    """Read, override and validate a specification, and check that everything it names exists.

    `overrides` are `key.path=value` texts; `contracts` the names of the contracts that exist.

    Raises:
        UserErrors: all mistakes found, in the order of the file.
    """
    document = read_yaml(file)
    if not isinstance(document.value, dict):
        raise UserErrors(
            [UserError("a specification is a mapping of keys", f"{file}:1", "start with `name: ...`")]
        )
    errors = apply_overrides(document, overrides)
    if errors:
        raise UserErrors(errors)
    try:
        spec = RunSpec.model_validate(document.value)
    except ValidationError as error:
        raise UserErrors(explain(error.errors(include_url=False), RunSpec, document)) from None
    errors = check_names(spec, document, set(contracts))
    if errors:
        raise UserErrors(errors)
    return spec


def apply_overrides(document: Document, overrides: Sequence[str]) -> list[UserError]:
    """Write each `key.path=value` into the document; values are read as YAML."""
    errors = []
    for text in overrides:
        key, sign, raw = text.partition("=")
        place = f"--set {text}"
        if not sign or not key.strip():
            errors.append(
                UserError(
                    "an override needs the form key.path=value", place, "write --set mixture.replay_ratio=0.1"
                )
            )
            continue
        try:
            value = parse_yaml(raw, place).value
        except UserErrors as error:
            errors += [UserError(e.what, place, e.fix) for e in error.errors]
            continue
        error = _write(document, key.strip().split("."), value, place)
        if error:
            errors.append(error)
    return errors


def _write(document: Document, keys: list[str], value: Any, place: str) -> UserError | None:
    node, path = document.value, ()
    for depth, key in enumerate(keys):
        last = depth == len(keys) - 1
        if isinstance(node, list):
            if not key.isdigit() or int(key) >= len(node):
                return UserError(
                    f"{'.'.join(keys[: depth + 1])} does not exist",
                    place,
                    f"the list has entries 0 to {len(node) - 1}",
                )
            step: str | int = int(key)
        elif isinstance(node, dict):
            step = key
        else:
            return UserError(
                f"{'.'.join(keys[:depth])} is not a mapping", place, "set a key that the file has"
            )
        path = (*path, step)  # type: ignore[assignment]
        if last:
            # a `kind` replaced by another takes its own settings: the old kind's would be refused
            if step == "kind" and isinstance(node, dict) and node.get("kind") != value:
                for other in [k for k in node if k != "kind"]:
                    del node[other]
            node[step] = value  # type: ignore[index]
            document.places = {p: w for p, w in document.places.items() if p[: len(path)] != path}
            document.places[path] = place
        else:
            if isinstance(node, dict) and not isinstance(node.get(key), dict | list):
                node[key] = {}
                document.places[path] = place
            node = node[step]  # type: ignore[index]
    return None


def check_names(spec: RunSpec, document: Document, contracts: set[str]) -> list[UserError]:
    """Find every file, contract and base folder that is named but not there."""
    errors = []
    for path, source in sources_of(spec):
        errors += _check_source(source, path, document, contracts)
    if isinstance(spec.base, str):
        errors += _check_base(spec.base, document.place(("base",)))
    return errors


def sources_of(spec: RunSpec) -> list[tuple[tuple[str | int, ...], Source]]:
    """Every source of a specification with its path in the file."""
    listed: list[tuple[tuple[str | int, ...], Source]] = []
    listed += [(("domain", i), s) for i, s in enumerate(spec.domain)]
    listed += [(("replay", i), s) for i, s in enumerate(spec.replay)]
    listed += [(("evaluation", "domain", i), s) for i, s in enumerate(spec.evaluation.domain)]
    listed += [(("evaluation", "general", i), s) for i, s in enumerate(spec.evaluation.general)]
    return listed


def _check_source(
    source: Source, path: tuple[str | int, ...], document: Document, contracts: set[str]
) -> list[UserError]:
    errors = []
    name = ".".join(map(str, path))
    try:
        if not source_files(source):
            shown = Path(expand(source.path)).absolute()
            errors.append(
                UserError(
                    f"{name}.path matches no file",
                    document.place((*path, "path")),
                    f"check the path (read as {shown})",
                )
            )
    except KeyError as error:
        errors.append(
            UserError(
                f"{name}.path names the environment variable {error.args[0]}, which is not set",
                document.place((*path, "path")),
                f"run: export {error.args[0]}=...",
            )
        )
    as_file = source.contract.endswith((".yaml", ".yml"))
    if as_file and not Path(source.contract).is_file():
        errors.append(
            UserError(
                f"the contract file {source.contract} is missing",
                document.place((*path, "contract")),
                "check the path",
            )
        )
    elif not as_file and contracts and source.contract not in contracts:
        near = difflib.get_close_matches(source.contract, sorted(contracts), 1)
        hint = f"did you mean {near[0]}? " if near else ""
        errors.append(
            UserError(
                f"there is no contract '{source.contract}'",
                document.place((*path, "contract")),
                f"{hint}known: {', '.join(sorted(contracts))}; or the path of an .odcs.yaml file",
            )
        )
    return errors


def _check_base(base: str, place: str) -> list[UserError]:
    try:
        folder = Path(expand(base))
    except KeyError as error:
        name = error.args[0]
        return [
            UserError(
                f"base names the environment variable {name}, which is not set",
                place,
                f"run: export {name}=...",
            )
        ]
    if (folder / "config.json").is_file() or (folder / "adapter_config.json").is_file():
        return []
    if folder.is_dir():
        return [
            UserError(
                f"base: {base} has no config.json", place, "name a folder that holds a transformers model"
            )
        ]
    if _HUB_ID.match(base) and not Path(base.split("/")[0]).is_dir():
        return []
    return [
        UserError(
            f"base: there is no folder {base}",
            place,
            "name an existing folder or a Hub id such as Qwen/Qwen3-0.6B",
        )
    ]


def is_hub_id(base: str) -> bool:
    """Whether `base` is not a folder here but may be a model on the Hub."""
    return not Path(expand(base)).exists() and bool(_HUB_ID.match(base))


def expand(path: str) -> str:
    """Replace `$NAME` and `${NAME}` from the environment and `~` by the home folder.

    Raises:
        KeyError: a variable is not set.
    """
    replaced = re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda match: os.environ[match[1] or match[2]], path)
    return str(Path(replaced).expanduser())


def source_files(source: Source) -> list[str]:
    """Files of a source, sorted; a plain path is itself, a glob what it matches.

    Raises:
        KeyError: the path names an environment variable that is not set.
    """
    path = expand(source.path)
    if Path(path).is_file():
        return [path]
    found = glob.glob(path, recursive=True)  # noqa: PTH207 (Path.glob refuses absolute patterns)
    return sorted(file for file in found if Path(file).is_file())
