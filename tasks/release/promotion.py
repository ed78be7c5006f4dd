"""The only way into use: a passing decision that is bound to the very files it judged, or a person who says why not.

Champion, watermark and decision move together. What is going to happen is written down first, in one file (the intent);
then each part of it is done, and may be done twice; then the file is removed. A process killed in between leaves the
intent, and whoever next reads or moves anything of that name finishes it first.
"""

import getpass
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from schemas.artifacts import Decision
from schemas.commands import command
from schemas.errors import UserError
from schemas.increments import IncrementRecord
from schemas.promotion import Forced
from schemas.yaml_reader import read_yaml
from tasks.release import registry
from tasks.release.intent import FORCED, Intent, carry_out, clear_intent, read_intent, write_intent
from tasks.release.lineage import weights_sha256
from tasks.release.registry import Registered
from tasks.release.watermark import DRAFT, write_scores
from tasks.storage.hashing import sha256_file
from tasks.storage.steps import hold

Alias = Literal["champion", "challenger"]


Check = Callable[[], None]
"""What must hold at the moment of the release, while nobody else can move anything of that name."""


def promote(
    state: Path, run_folder: Path, forced_because: str | None = None, check: Check = lambda: None
) -> Registered:
    """Put a run's model in use. Promoting the champion again changes nothing.

    `forced_because` puts a model in use that did not pass, and keeps who did so, when, why and which rules speak
    against it. That its files are those the decision was made on is checked all the same.

    Raises:
        UserError: no passing decision, a file it is bound to has changed since, or no reason is given.
    """
    if forced_because is None:
        return release(state, run_folder, verify(run_folder), "champion", check=check)
    decision = _verify_files(run_folder)
    if not forced_because.strip():
        raise UserError(
            "a forced promotion needs a reason", "--reason", 'write why: --reason "the rule is about ..."'
        )
    if decision.verdict == "promote":
        fix = f"leave out --force: {command('rootstock', 'promote', run_folder.name)}"
        raise UserError("this run passed: there is nothing to force", str(run_folder), fix)
    broken = tuple(rule.reason for rule in decision.rules if rule.outcome != "pass")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    forced = Forced(who=getpass.getuser(), when=now, why=forced_because.strip(), broken=broken)
    return release(state, run_folder, decision, "champion", forced, check)


def nominate(state: Path, run_folder: Path, check: Check = lambda: None) -> Registered:
    """Let a run's model wait as `challenger` for `rootstock promote` (`promotion.approval: manual`).

    Raises:
        UserError: as for `promote`.
    """
    return release(state, run_folder, verify(run_folder), "challenger", check=check)


def refuse(state: Path, run_folder: Path, check: Check = lambda: None) -> Registered:
    """Register a run that did not pass; a rejected increment is consumed, an inconclusive one is not."""
    return release(state, run_folder, _read_decision(run_folder), None, check=check)


def release(
    state: Path,
    run_folder: Path,
    decision: Decision,
    alias: Alias | None,
    forced: Forced | None = None,
    check: Check = lambda: None,
) -> Registered:
    """Register a run and move alias and watermark, together or not at all."""
    name, weights = _model_name(run_folder), decision.bindings.weights
    terminal = alias == "champion" or decision.verdict == "reject"
    intent = Intent(
        name=name,
        run=run_folder.name,
        alias=alias,
        weights=weights,
        decision=sha256_file(run_folder / "decision.json"),
        verdict=decision.verdict,
        forced=forced,
        record=_draft_of(run_folder) if terminal else None,
    )
    with settled(state, name):
        check()
        write_intent(state, intent)
        version = carry_out(state, intent)
        clear_intent(state, name)
    return Registered(
        name=name,
        version=version,
        run_id=run_folder.name,
        model_folder=run_folder / "model",
        weights_sha256=weights,
    )


@contextmanager
def settled(state: Path, name: str) -> Iterator[None]:
    """Hold what is released of a name, after finishing what a killed process had begun."""
    with hold(state, f"release-{name}"):
        if (intent := read_intent(state, name)) is not None:
            carry_out(state, intent)
            clear_intent(state, name)
        yield


def settle(state: Path, name: str) -> None:
    """Finish what a killed process had begun to release."""
    if read_intent(state, name) is not None:
        with settled(state, name):
            pass


def rollback(state: Path, name: str) -> Registered:
    """Put the previous champion in use again; the next increment starts from it.

    What the rolled-back increment had consumed stays consumed: the same data would give the same model again.

    Raises:
        UserError: see `registry.rollback`.
    """
    with settled(state, name):
        restored = registry.rollback(state, name)
        write_scores(state, name, restored.run_id)
        return restored


def forced_of(run_folder: Path) -> Forced | None:
    """Who put this run in use against its decision; None if nobody did."""
    file = run_folder / FORCED
    return Forced.model_validate_json(file.read_bytes()) if file.is_file() else None


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
    return _verify_files(run_folder)


def _verify_files(run_folder: Path) -> Decision:
    decision = _read_decision(run_folder)
    for file, bound in (("spec.yaml", decision.bindings.spec), ("scores.json", decision.bindings.scores)):
        _require_bound(run_folder / file, _sha256_if_there(run_folder / file), bound)
    _require_bound(run_folder / "model", weights_sha256(run_folder / "model"), decision.bindings.weights)
    return decision


def _draft_of(run_folder: Path) -> IncrementRecord | None:
    """The record of an increment's run; None of any other."""
    file = run_folder / DRAFT
    return IncrementRecord.model_validate_json(file.read_bytes()) if file.is_file() else None


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
