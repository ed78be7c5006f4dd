"""Export a run's model; what is merged is scored on the run's own suites before it appears."""

import json
from pathlib import Path

from flows.growing.effective import effective, laid_out
from flows.models.evaluate import prepare_suites, score_on_suites
from flows.progress.watch import Console
from schemas.errors import UserError
from schemas.reading.yaml_reader import read_yaml
from schemas.results.replay_choice import ReplayChoice
from schemas.results.scores import Scores
from schemas.spec.run import RunSpec
from tasks.release.export.export import export_model
from tasks.release.record.mend import require_intact
from tasks.release.registry import incumbent
from tasks.storage.reading import read_stored
from tasks.training.models.judged import require_judged

SUITE_TOLERANCE = 1e-3
"""Of a suite's score, in its own unit."""


def export_run(model: Path, target: Path, merge: bool, state: Path) -> str:
    """Copy or merge a model; see export_model. A merged one of a run is held against the scores it was judged by.

    Raises:
        UserError: see export_model; the model is not the one that was judged; or the merged model scores differently.
    """
    require_judged(model)
    return export_model(model, target, merge, lambda merged: _score(model.parent, merged, state))


def _followed(run: Path, spec: RunSpec, state: Path) -> RunSpec:
    """The specification that the run followed: from the champion that it was pinned to, at the ratio that it chose."""
    choice = run / "replay_choice.json"
    chosen = ReplayChoice.model_validate_json(read_stored(choice)) if choice.is_file() else None
    return laid_out(effective(spec, state, incumbent.model_folder(state, spec.name, run), Console()), chosen)


def _score(run: Path, merged: Path, state: Path) -> str:
    """Score a merged model on the suites of its run; what was found, or why nothing was."""
    if not (run / "scores.json").is_file() or not (run / "spec.yaml").is_file():
        return "not scored: this is no run's model (rootstock evaluate MODEL SPEC does it)"
    require_intact(run)
    spec = RunSpec.model_validate_json(json.dumps(read_yaml(run / "spec.yaml").value), strict=True)
    before = Scores.model_validate_json(read_stored(run / "scores.json"))
    turn = incumbent.turn_of(run) if before.parts else None
    try:
        spec = _followed(run, spec, state)
        suites = prepare_suites(spec, state, merged, Console(), turn=turn)
        after = score_on_suites(spec, state, suites, merged, Console())
    except UserError as error:
        return f"not scored: {error.what} ({error.where})"
    was = {suite.name: before.value(suite, "candidate") for suite in before.suites}
    now = {suite.name: after.value(suite, "candidate") for suite in after.suites}
    if was.keys() != now.keys():
        return "not scored: the data of the run's suites have changed since"
    worst = max(was, key=lambda name: abs(now[name] - was[name]))
    difference = abs(now[worst] - was[worst])
    if difference > SUITE_TOLERANCE:
        raise UserError(
            f"the merged model scores {now[worst]:.4f} on '{worst}', the run's model {was[worst]:.4f}",
            str(run / "scores.json"),
            "deploy base and adapter side by side instead; if the data have changed, run the specification again",
        )
    return (
        f"on the {len(was)} suites of its run the largest difference of a score is {difference:.2g}"
        f" (allowed {SUITE_TOLERANCE})"
    )
