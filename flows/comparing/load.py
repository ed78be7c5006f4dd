"""Load a comparison (of methods, or of remedies) and the run specification it shares: every mistake at once, each with its line."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from schemas.errors import UserError, UserErrors
from schemas.reading.explain import explain
from schemas.reading.file_kinds import other_kind
from schemas.reading.load import check_base, load_spec
from schemas.reading.overrides import apply_overrides, refuse_given
from schemas.reading.yaml_reader import Document, survey_yaml
from schemas.results.comparison import Comparison
from schemas.results.remedy_comparison import RemedyCell, RemedyComparison
from schemas.spec.run import RunSpec

Kind = TypeVar("Kind", bound=BaseModel)


def load_comparison(file: Path, sets: Sequence[str] = ()) -> tuple[Comparison, RunSpec]:
    """Read and check both files; a path in the comparison is relative to the working directory, as everywhere.

    `sets` replace keys of the comparison, `key.path=value` each.

    Raises:
        UserErrors: all mistakes of the comparison, or else all of the specification.
    """
    from data_contracts.contract import list_contracts
    from flows.comparing.methods import final_cells, group_of, search_cells, spec_of

    comparison, document = read_document(file, Comparison, sets)
    if wrong := [
        error
        for index, base in enumerate(comparison.bases)
        for error in check_base(base, document.place(("bases", index)), f"bases.{index}")
    ]:
        raise UserErrors(wrong)
    places = _places(document)
    given = {
        "name": "name", "method": "methods", "training.learning_rate": "learning_rates", "training.seed": "seeds",
        "training.documents": "documents", **({"base": "bases"} if comparison.bases else {}),
    }  # fmt: skip
    _require_effect(comparison.overrides, given, places)
    spec = _load_shared(comparison.spec, comparison.overrides, (), list_contracts(), places)
    if spec.objective.task_names:
        what = "a comparison ranks methods by one domain suite, and several tasks have one each"
        raise UserError(what, comparison.spec, "name a specification of one task")
    if spec.mixture.forgetting_budget is not None:
        raise UserError(
            "a comparison trains every method on one mixture, and a forgetting budget gives each its own",
            comparison.spec,
            "give mixture.replay_ratio there, or under overrides: mixture={replay_ratio: 0.25}",
        )
    cells = search_cells(comparison)
    try:
        for cell in [*cells, *final_cells(comparison, {group_of(c): c.learning_rate for c in cells})]:
            spec_of(comparison, spec, cell)
    except ValidationError as invalid:
        error = invalid.errors(include_url=False)[0]
        what = f"a method and the shared specification do not go together: {error['msg'].removeprefix('Value error, ')}"
        raise UserError(what, str(file), "change the method, or a value under overrides") from None
    return comparison, spec


def load_remedy_comparison(
    file: Path, sets: Sequence[str] = ()
) -> tuple[RemedyComparison, list[tuple[RemedyCell, RunSpec]]]:
    """Read and check a comparison of remedies, and the specification of each of its trainings; `sets` as above.

    Raises:
        UserErrors: all mistakes of the comparison, or else of the first specification that has some.
    """
    from data_contracts.contract import list_contracts
    from flows.comparing.remedies import overrides_of, remedy_cells

    comparison, document = read_document(file, RemedyComparison, sets)
    contracts, places = list_contracts(), _places(document)
    given = {"name": "name", "training.seed": "seeds"}
    _require_effect(comparison.overrides, given, places)
    for candidate in comparison.candidates:
        varied = {} if candidate.vary is None else {candidate.vary.key: "vary"}
        _require_effect(candidate.set, given, places)
        _require_effect([t for t in candidate.set if t.partition("=")[0].strip() in varied], varied, places)
        _require_effect([f"{key}=" for key in varied], given, places)
    return comparison, [
        (
            cell,
            _load_shared(
                comparison.spec, *overrides_of(comparison, cell), contracts=contracts, places=places
            ),
        )
        for cell in remedy_cells(comparison)
    ]


def read_document(file: Path, kind: type[Kind], sets: Sequence[str] = ()) -> tuple[Kind, Document]:
    """Read one YAML file of this kind, with keys replaced by `sets`; return it, and where its values stand.

    Raises:
        UserErrors: all its mistakes.
    """
    document = survey_yaml(file)
    methods = kind is Comparison
    if not isinstance(document.value, dict):
        fix = f"start with `name: ...`, or copy one from runs/{'compare' if methods else 'remedies'}/"
        mistake = UserError("a comparison is a mapping of keys", f"{file}:1", fix)
        raise UserErrors(document.errors or [mistake])
    errors = [*document.errors, *apply_overrides(document, sets, "seeds=[1,2]")]
    if errors:
        raise UserErrors(errors)
    try:
        return kind.model_validate_json(json.dumps(document.value), strict=True), document
    except ValidationError as invalid:
        if other := other_kind(document.value, "comparison" if methods else "remedies", file):
            raise other from None
        raise UserErrors(explain(invalid.errors(include_url=False), kind, document)) from None


def _require_effect(overrides: Sequence[str], given: Mapping[str, str], places: Mapping[str, str]) -> None:
    if wrong := refuse_given(overrides, given):
        raise UserErrors(_placed(wrong, places))


def _load_shared(
    spec: str,
    overrides: Sequence[str],
    below: Sequence[Sequence[str]],
    contracts: Mapping[str, Path],
    places: Mapping[str, str],
) -> RunSpec:
    """The specification that trainings share, with what the comparison replaces in it.

    Raises:
        UserErrors: its mistakes; those of a replaced value at the comparison's own line.
    """
    try:
        return load_spec(Path(spec), overrides, contracts, below)
    except UserErrors as errors:
        raise UserErrors(_placed(errors.errors, places)) from None


def _placed(errors: Sequence[UserError], places: Mapping[str, str]) -> list[UserError]:
    return [UserError(e.what, places.get(e.where, e.where), e.fix) for e in errors]


def _places(document: Document) -> dict[str, str]:
    """`--set TEXT`, as load_spec calls an override -> where TEXT stands in the comparison."""
    return {
        f"--set {text}": document.place((*path, index))
        for path, texts in _overrides_in(document.value)
        for index, text in enumerate(texts)
    }


def _overrides_in(value: Any) -> Iterator[tuple[tuple[str | int, ...], Sequence[str]]]:
    yield ("overrides",), value.get("overrides") or ()
    for number, candidate in enumerate(value.get("candidates") or ()):
        yield ("candidates", number, "set"), candidate.get("set") or ()
        vary = candidate.get("vary") or {"values": ()}
        yield (
            ("candidates", number, "vary", "values"),
            [f"{vary['key']}={float(strength)!r}" for strength in vary["values"]],
        )
