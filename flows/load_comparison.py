"""Load a comparison and the run specification it shares: every mistake at once, each with its line."""

import json
from pathlib import Path

from pydantic import ValidationError

from schemas.comparison import Comparison
from schemas.errors import UserError, UserErrors
from schemas.explain import explain
from schemas.load import load_spec
from schemas.run import RunSpec
from schemas.yaml_reader import survey_yaml


def load_comparison(file: Path) -> tuple[Comparison, RunSpec]:
    """Read and check both files; a path in the comparison is relative to the working directory, as everywhere.

    Raises:
        UserErrors: all mistakes of the comparison, or else all of the specification.
    """
    from data_contracts.contract import list_contracts
    from flows.compare import final_cells, group_of, jobs_of, search_cells

    document = survey_yaml(file)
    if document.errors:
        raise UserErrors(document.errors)
    if not isinstance(document.value, dict):
        fix = "start with `name: ...`, or copy one from runs/compare/"
        raise UserError("a comparison is a mapping of keys", f"{file}:1", fix)
    try:
        comparison = Comparison.model_validate_json(json.dumps(document.value), strict=True)
    except ValidationError as invalid:
        raise UserErrors(explain(invalid.errors(include_url=False), Comparison, document)) from None
    spec = load_spec(Path(comparison.spec), comparison.overrides, list_contracts())
    if spec.mixture.forgetting_budget is not None:
        raise UserError(
            "a comparison trains every method on one mixture, and a forgetting budget gives each its own",
            comparison.spec,
            "give mixture.replay_ratio there, or under overrides: mixture={replay_ratio: 0.25}",
        )
    cells = search_cells(comparison)
    try:
        jobs_of(
            comparison,
            spec,
            [*cells, *final_cells(comparison, {group_of(c): c.learning_rate for c in cells})],
        )
    except ValidationError as invalid:
        error = invalid.errors(include_url=False)[0]
        what = f"a method and the shared specification do not go together: {error['msg'].removeprefix('Value error, ')}"
        raise UserError(what, str(file), "change the method, or a value under overrides") from None
    return comparison, spec
