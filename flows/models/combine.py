"""Combine tuned models of one base, and score base, models and combination on the same suites."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

from flows.models.evaluate import PreparedSuites, prepare_suites, score_on_suites
from flows.progress.watch import Console, Watch
from schemas.errors import UserError
from schemas.spec.run import RunSpec
from tasks.release.export.combinable import common_base, read_origin
from tasks.release.export.combine import combine_models
from tasks.release.export.combine_recipe import Recipe
from tasks.release.export.writing import require_new
from tasks.training.models.weights import find_model

Row = dict[str, str | float]


class Combined(TypedDict):
    """What the command line prints."""

    folder: str
    said: str
    changed_tensors: int
    scores: list[Row]
    """One row per model: its name, and the loss on each suite; empty if nothing was scored."""


def combine_and_score(
    models: Mapping[str, str],
    recipe: Recipe,
    target: Path,
    base: str | None,
    spec: RunSpec | None,
    state: Path,
) -> Combined:
    """Combine `models` (name -> folder or Hub id) into `target`; with a specification, score them all.

    Raises:
        UserError: see combinable, combine and evaluate_model; a model named twice; suites that are not for language
            models.
    """
    require_new(target)
    if spec is not None and not spec.objective.learns_text:
        what = f"the suites are for {spec.objective.kind}, and combinations are language models"
        raise UserError(what, "objective.kind", "name a specification of objective language_modeling")
    if len(models) != len(recipe.weights):
        raise UserError("a model is named twice", ", ".join(models), "name each model once")
    origins = [read_origin(name, find_model(folder)) for name, folder in models.items()]
    found = common_base(origins, base)
    watch = Console()
    suites = None if spec is None else prepare_suites(spec, state, found, watch)
    changed = combine_models(found, origins, recipe, target)
    said = f"{len(origins)} models combined by {recipe.how} in {target}: {changed:,} tensors differ from the base's"
    if spec is None or suites is None:
        said += "; nothing was scored (--spec SPEC scores base, models and combination)"
    scored = [("base", found), *((origin.name, origin.folder) for origin in origins), ("combination", target)]
    scores = [] if spec is None or suites is None else _score(scored, spec, state, suites, watch)
    return {"folder": str(target), "said": said, "changed_tensors": changed, "scores": scores}


def _score(
    models: Sequence[tuple[str, Path]], spec: RunSpec, state: Path, prepared: PreparedSuites, watch: Watch
) -> list[Row]:
    """All models have one tokenizer, so the suites are prepared once."""
    rows: list[Row] = []
    for name, folder in models:
        with watch.stage(f"score {name}"):
            scores = score_on_suites(spec, state, prepared, folder, watch)
        losses = {f"{s.name} ({scores.unit})": scores.value(s, "candidate") for s in scores.suites}
        rows.append({"model": name, **losses})
    return rows
