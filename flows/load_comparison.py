"""Load a comparison (of methods, or of remedies) and the run specification it shares: every mistake at once, each with its line."""

import json
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from schemas.comparison import Comparison
from schemas.errors import UserError, UserErrors
from schemas.explain import explain
from schemas.load import load_spec
from schemas.remedy_comparison import RemedyCell, RemedyComparison
from schemas.run import RunSpec
from schemas.yaml_reader import survey_yaml

Document = TypeVar("Document", bound=BaseModel)


def load_comparison(file: Path) -> tuple[Comparison, RunSpec]:
    """Read and check both files; a path in the comparison is relative to the working directory, as everywhere.

    Raises:
        UserErrors: all mistakes of the comparison, or else all of the specification.
    """
    from data_contracts.contract import list_contracts
    from flows.compare import final_cells, group_of, search_cells, spec_of

    comparison = read_document(file, Comparison, "runs/compare/")
    spec = load_spec(Path(comparison.spec), comparison.overrides, list_contracts())
    cells = search_cells(comparison)
    try:
        for cell in [*cells, *final_cells(comparison, {group_of(c): c.learning_rate for c in cells})]:
            spec_of(comparison, spec, cell)
    except ValidationError as invalid:
        error = invalid.errors(include_url=False)[0]
        what = f"a method and the shared specification do not go together: {error['msg'].removeprefix('Value error, ')}"
        raise UserError(what, str(file), "change the method, or a value under overrides") from None
    return comparison, spec


def load_remedy_comparison(file: Path) -> tuple[RemedyComparison, list[tuple[RemedyCell, RunSpec]]]:
    """Read and check a comparison of remedies, and the specification of each of its trainings.

    Raises:
        UserErrors: all mistakes of the comparison, or else of the first specification that has some.
    """
    from data_contracts.contract import list_contracts
    from flows.compare_remedies import overrides_of, remedy_cells

    comparison = read_document(file, RemedyComparison, "runs/remedies/")
    contracts = list_contracts()
    return comparison, [
        (cell, load_spec(Path(comparison.spec), overrides_of(comparison, cell), contracts))
        for cell in remedy_cells(comparison)
    ]


def read_document(file: Path, kind: type[Document], examples: str) -> Document:
    """Read one YAML file of this kind.

    Raises:
        UserErrors: all its mistakes.
    """
    document = survey_yaml(file)
    if document.errors:
        raise UserErrors(document.errors)
    if not isinstance(document.value, dict):
        fix = f"start with `name: ...`, or copy one from {examples}"
        raise UserError("a comparison is a mapping of keys", f"{file}:1", fix)
    try:
        return kind.model_validate_json(json.dumps(document.value), strict=True)
    except ValidationError as invalid:
        raise UserErrors(explain(invalid.errors(include_url=False), kind, document)) from None
