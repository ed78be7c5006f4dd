"""Load a run specification: every mistake of the file at once, each with its line and its remedy."""

from __future__ import annotations

import codecs
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from schemas.commands import command
from schemas.environment import expand as expand
from schemas.errors import UserError, UserErrors
from schemas.nearest import nearest
from schemas.reading.explain import explain
from schemas.reading.file_kinds import other_kind
from schemas.reading.files import matching_files
from schemas.reading.files import source_files as source_files
from schemas.reading.overrides import apply_overrides, name_both
from schemas.reading.yaml_reader import Document, survey_yaml
from schemas.results.contracts import told_record
from schemas.spec.records import RECORDS
from schemas.spec.run import RunSpec
from schemas.spec.sources import Source

_HUB_ID = re.compile(r"^[\w.-]+/[\w.-]+$")
_SOURCES = (("domain",), ("replay",), ("evaluation", "domain"), ("evaluation", "general"))
_NAMING = (*_SOURCES, ("remedies",))
"""Lists of what may name files, contracts and encodings."""


def load_spec(
    file: Path,
    overrides: Sequence[str] = (),
    contracts: Mapping[str, Path] | Iterable[str] = (),
    below: Sequence[Sequence[str]] = (),
) -> RunSpec:
    """Read, override and validate a specification, and check that everything it names exists.

    `overrides` are `key.path=value` texts, in any order, `below` such that they may replace (see `apply_overrides`);
    `contracts` the names of the contracts that exist, with their files or not.

    Raises:
        UserErrors: all mistakes found, in the order of the file.
    """
    document = survey_yaml(file)
    errors = list(document.errors)
    if not isinstance(document.value, dict):
        what = "the file is empty" if document.value is None else "a specification is a mapping of keys"
        fix = "start with `name: ...`, or copy one from runs/"
        raise UserErrors(errors or [UserError(what, f"{file}:1", fix)])
    errors += apply_overrides(document, overrides, below=below)
    seen = {error.where for error in errors}
    spec = None
    try:
        # JSON's strict mode, because YAML tells types apart already: `true` is no number, "2" no 2
        spec = RunSpec.model_validate_json(json.dumps(document.value), strict=True)
    except ValidationError as invalid:
        if other := other_kind(document.value, "run", file):
            raise other from None
        found = explain(invalid.errors(include_url=False), RunSpec, document)
        errors += [one for one in found if one.where not in seen]
    errors += check_names(document, set(contracts))
    if spec is not None:
        errors += check_tasks(spec, document, contracts if isinstance(contracts, Mapping) else {})
    if errors or spec is None:
        raise UserErrors(sorted(name_both(errors, [*chain(*below), *overrides]), key=_order))
    return spec


def _order(error: UserError) -> tuple[bool, int]:
    """Lines of the file in their order, then the command line."""
    line = error.where.rpartition(":")[2]
    return error.where.startswith("--set "), int(line) if line.isascii() and line.isdigit() else 0


def check_names(document: Document, contracts: set[str]) -> list[UserError]:
    """Find every file, contract, encoding and base folder that is named but not there.

    Whatever the specification's other mistakes are; what has the wrong shape is passed over.
    """
    errors = []
    for path in _NAMING:
        node = document.value
        for key in path:
            node = node.get(key) if isinstance(node, dict) else None
        for index, source in enumerate(node if isinstance(node, list) else ()):
            if isinstance(source, dict):
                errors += _check_source(source, (*path, index), document, contracts)
    base = document.value.get("base")
    if isinstance(base, str) and base:
        errors += check_base(base, document.place(("base",)))
    return errors


def sources_of(spec: RunSpec) -> list[tuple[tuple[str | int, ...], Source]]:
    """Every source of a specification with its path in the file; of an increment, only what it reads."""
    listed: list[tuple[tuple[str | int, ...], Source]] = []
    domain: Sequence[Source] = spec.increment.new if spec.increment else spec.domain
    listed += [(("domain", i), s) for i, s in enumerate(domain)]
    listed += [(("replay", i), s) for i, s in enumerate(spec.replay)]
    listed += [
        (("increment", "past", i), s) for i, s in enumerate(spec.increment.past if spec.increment else ())
    ]
    listed += [(("evaluation", "domain", i), s) for i, s in enumerate(spec.evaluation.domain)]
    listed += [(("evaluation", "general", i), s) for i, s in enumerate(spec.evaluation.general)]
    return listed


def check_tasks(spec: RunSpec, document: Document, contracts: Mapping[str, Path]) -> list[UserError]:
    """Find sources whose contract is for another kind of rows than their task."""
    errors = []
    for path, source in sources_of(spec) if spec.objective.task_names else ():
        file = contracts.get(source.contract, Path(source.contract))
        try:
            told = told_record(survey_yaml(file).value)
        except UserErrors:
            continue  # that it is not there, or no YAML, is said elsewhere
        wanted = spec.record_of(source)
        if told is not None and told != wanted:
            given, needed = RECORDS[told].holds, RECORDS[wanted].holds
            what = f"contract '{source.contract}' is for {given}, but task {source.task} reads {needed}"
            fix = f"name a contract for {needed}, or another task"
            errors.append(UserError(what, document.place((*path, "contract")), fix))
    return errors


def _check_source(
    source: dict[str, Any], path: tuple[str | int, ...], document: Document, contracts: set[str]
) -> list[UserError]:
    errors = []
    checks = (
        ("path", _check_path),
        ("contract", lambda given, _: _check_contract(given, contracts)),
        ("encoding", _check_encoding),
    )
    for key, check in checks:
        given = source.get(key)
        if isinstance(given, str) and given:
            name = ".".join(map(str, (*path, key)))
            try:
                mistake = check(given, name)
            except OSError as error:  # no such name can be on this file system
                mistake = f"{name}: {error.strerror}", "name an existing file"
            errors += [UserError(mistake[0], document.place((*path, key)), mistake[1])] if mistake else []
    return errors


def _check_path(given: str, name: str) -> tuple[str, str] | None:
    """What is wrong with a source's path and how to mend it."""
    try:
        path = Path(expand(given))
        if path.is_dir():
            return f"{name} is a folder: {given}", f"name its files, such as {given.rstrip('/')}/*.jsonl"
        files = matching_files(given)
    except KeyError as error:
        return _unset(name, error.args[0])
    except UserErrors as errors:
        told = "; ".join(f"{one.what}: {one.where}" for one in errors.errors)
        return f"{name}: {told}", errors.fix
    if not files:
        return f"{name} matches no file: {given}", f"check the path (read as {path.absolute()})"
    closed = next((file for file in files if not os.access(file, os.R_OK)), None)
    return (
        None
        if closed is None
        else (
            f"{name}: no permission to read {closed}",
            f"run: {command('chmod', 'u+r', closed)}",
        )
    )


def _unset(name: str, variable: str) -> tuple[str, str]:
    what = f"{name} names the environment variable {variable}, which is not set"
    return what, f"run: export {variable}=..."


def _check_contract(given: str, contracts: set[str]) -> tuple[str, str] | None:
    if given.endswith((".yaml", ".yml")):
        if Path(given).is_file():
            return None
        return f"there is no contract file {given}", f"check the path (read as {Path(given).absolute()})"
    if not contracts or given in contracts:
        return None
    known = sorted(contracts)
    fix = f"{nearest(given, known)}known: {', '.join(known)}; or the path of an .odcs.yaml file"
    return f"there is no contract '{given}'", fix


def _check_encoding(given: str, name: str) -> tuple[str, str] | None:
    try:
        codecs.lookup(given)
    except (LookupError, ValueError):
        fix = "write utf-8, gb18030, big5, cp1252 or the like, or leave it out: it is then detected"
        return f"{name}: there is no encoding '{given}'", fix
    return None


def check_base(base: str, place: str, name: str = "base") -> list[UserError]:
    """Find what is wrong with a base as far as files tell: a Hub id may be there or not; `name` is the key's."""
    try:
        folder = Path(expand(base))
        folder.exists()
    except OSError as error:
        return [UserError(f"{name}: {error.strerror}", place, "name an existing folder or a Hub id")]
    except KeyError as error:
        what, fix = _unset(name, error.args[0])
        return [UserError(what, place, fix)]
    if (folder / "config.json").is_file() or (folder / "adapter_config.json").is_file() or is_hub_id(base):
        return []
    fix = "name a folder that holds a transformers model (config.json, *.safetensors)"
    if folder.exists():
        return [UserError(f"{name}: {base} is not a model: it has no config.json", place, fix)]
    return [
        UserError(f"{name}: there is no folder {base}", place, f"{fix}, or a Hub id such as Qwen/Qwen3-0.6B")
    ]


def is_hub_id(base: str) -> bool:
    """Whether `base` may be a model on the Hub: not a folder here, nor below one."""
    here = Path(expand(base))
    return bool(_HUB_ID.match(base)) and not here.exists() and not here.parent.is_dir()
