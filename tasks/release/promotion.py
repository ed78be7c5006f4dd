"""The only way into use: a passing decision that is bound to the very files it judged."""

from pathlib import Path

from pydantic import ValidationError

from schemas.artifacts import Decision
from schemas.errors import UserError
from schemas.yaml_reader import read_yaml
from tasks.release import registry
from tasks.release.lineage import weights_sha256
from tasks.release.registry import Registered
from tasks.storage.hashing import sha256_file


def promote(state: Path, run_folder: Path) -> Registered:
    """Put a run's model in use. Promoting the champion again changes nothing.

    There is no argument that skips a check: what was rejected must be trained or measured anew.

    Raises:
        UserError: no passing decision, or a file it is bound to has changed since.
    """
    model = _register_verified(state, run_folder)
    registry.set_champion(state, model.name, model.version)
    return model


def nominate(state: Path, run_folder: Path) -> Registered:
    """Let a run's model wait as `challenger` for `rootstock promote` (`promotion.approval: manual`).

    Raises:
        UserError: as for `promote`.
    """
    model = _register_verified(state, run_folder)
    registry.set_challenger(state, model.name, model.version)
    return model


def verify(run_folder: Path) -> Decision:
    """Return the run's decision if it passes and every file it is bound to is unchanged.

    Raises:
        UserError: naming the first file that speaks against promotion.
    """
    decision = _read_decision(run_folder)
    if decision.verdict != "promote":
        raise UserError(
            f"this run cannot be promoted: its verdict is '{decision.verdict}'. {decision.sentence}",
            str(run_folder / "decision.json"),
            decision.next_action,
        )
    if not decision.rules:
        raise UserError(
            "this run cannot be promoted: its decision tested no rule",
            str(run_folder / "decision.json"),
            "run the specification again",
        )
    for file, bound in (("spec.yaml", decision.bindings.spec), ("scores.json", decision.bindings.scores)):
        _require_bound(run_folder / file, _sha256_if_there(run_folder / file), bound)
    _require_bound(run_folder / "model", weights_sha256(run_folder / "model"), decision.bindings.weights)
    return decision


def _register_verified(state: Path, run_folder: Path) -> Registered:
    decision = verify(run_folder)
    name, weights = _model_name(run_folder), decision.bindings.weights
    model = run_folder / "model"
    version = registry.register(
        state,
        name=name,
        run_id=run_folder.name,
        model_folder=model,
        weights_sha256=weights,
        decision_sha256=sha256_file(run_folder / "decision.json"),
        verdict=decision.verdict,
    )
    return Registered(
        name=name, version=version, run_id=run_folder.name, model_folder=model, weights_sha256=weights
    )


def _read_decision(run_folder: Path) -> Decision:
    file = run_folder / "decision.json"
    if not run_folder.is_dir():
        known = sorted(folder.name for folder in run_folder.parent.glob("*") if folder.is_dir())
        raise UserError(
            f"there is no run '{run_folder.name}'",
            str(run_folder),
            f"known runs: {', '.join(known[-10:])}" if known else "start one with `rootstock run SPEC`",
        )
    if not file.exists():
        raise UserError(
            "this run cannot be promoted: it has no decision yet",
            str(file),
            "run its specification again; the run goes on where it stopped",
        )
    try:
        return Decision.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise UserError(
            f"this run cannot be promoted: its decision is not one this program wrote ({error.errors()[0]['msg']})",
            str(file),
            "run the specification again; the decision is written anew",
        ) from None


def _model_name(run_folder: Path) -> str:
    value = read_yaml(run_folder / "spec.yaml").value
    return str(value["name"])


def _sha256_if_there(file: Path) -> str:
    return sha256_file(file) if file.exists() else "missing"


def _require_bound(file: Path, found: str, bound: str) -> None:
    if found != bound:
        raise UserError(
            f"this run cannot be promoted: {file.name} is not the one the decision was made on",
            f"{file} (sha256 {found[:12]}, the decision says {bound[:12]})",
            "restore the file, or run the specification again so that a new decision is made",
        )
