"""The only way into use: a passing decision that is bound to the very files it judged, or a person who says why not.

Champion, watermark and decision move together. What is going to happen is written down first, in one file (the intent);
then each part of it is done, and may be done twice; then the file is removed. A process killed in between leaves the
intent, and whoever next reads or moves anything of that name finishes it first.
"""

import functools
import getpass
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from schemas.commands import command
from schemas.errors import UserError
from schemas.reading.yaml_reader import read_yaml
from schemas.results.artifacts import Decision
from schemas.results.watermark import IncrementRecord
from schemas.spec.promotion import Forced
from tasks.release.increments.watermark import is_behind, mend_watermark, write_scores
from tasks.release.promotion.intent import (
    Intent,
    carry_out,
    clear_intent,
    read_intent,
    require_possible,
    write_intent,
)
from tasks.release.record.mend import how_to_mend
from tasks.release.record.run_record import (
    DRAFT,
    FORCED,
    RunRecord,
    _sha256_if_there,
    find_run_damage,
    read_record,
)
from tasks.release.record.run_record import FILE as RECORD
from tasks.release.registry import versions as registry
from tasks.release.registry.releases import Release, now
from tasks.release.registry.soundness import rolling_back
from tasks.release.registry.versions import Registered
from tasks.storage.hashing import sha256_file
from tasks.storage.intact import Damage
from tasks.storage.reading import read_stored
from tasks.storage.steps import hold
from tasks.training.models.judged import weights_sha256

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
    decision = _verify_files(run_folder, read_decision(run_folder))
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


def promote_by_hand(
    state: Path, run_folder: Path, forced_because: str | None = None, check: Check = lambda: None
) -> Registered:
    """Put a finished run's model in use, as `promote` does; every file that it left is read before.

    Raises:
        UserError: as for `promote`; or the run is not finished, or a file is not the one that it left.
    """
    read_decision(run_folder)  # says what is missing where there is no such run
    record = read_record(run_folder)
    if not isinstance(record, RunRecord) or not record.decision:
        raise UserError(
            "this run cannot be promoted: it is not finished, or the record of its end was removed",
            str(run_folder / RECORD),
            how_to_mend(run_folder),
        )
    return promote(state, run_folder, forced_because, check)


def nominate(state: Path, run_folder: Path, check: Check = lambda: None) -> Registered:
    """Let a run's model wait as `challenger` for `rootstock promote` (`promotion.approval: manual`).

    Raises:
        UserError: as for `promote`.
    """
    return release(state, run_folder, verify(run_folder), "challenger", check=check)


def refuse(state: Path, run_folder: Path, check: Check = lambda: None) -> Registered:
    """Register a run that did not pass; a rejected increment is consumed, an inconclusive one is not."""
    return release(state, run_folder, read_decision(run_folder), None, check=check)


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
        registry.exists(state)  # from here on it may differ from its record, until the intent is carried out
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
def settled(state: Path, name: str, rolled_back: bool = True) -> Iterator[None]:
    """Hold what is released of a name, after finishing what a killed process had begun; a rollback, if `rolled_back`."""
    with hold(state, f"release-{name}"):
        if (intent := read_intent(state, name)) is not None:
            require_possible(state, intent)
            carry_out(state, intent)
            clear_intent(state, name)
        if rolled_back:
            registry.finish_rollback(state, name, functools.partial(_record_rollback, state))
        if is_behind(state, name):
            mend_watermark(state, name)
        yield


def settle(state: Path, name: str) -> None:
    """Finish what a killed process had begun to release or roll back, and mend the list of what was consumed."""
    if read_intent(state, name) is not None or is_behind(state, name) or rolling_back(state, name):
        with settled(state, name):
            pass


def rollback(state: Path, name: str) -> Registered:
    """Put the previous champion in use again; the next increment starts from it.

    What the rolled-back increment had consumed stays consumed: the same data would give the same model again.

    Raises:
        UserError: see `registry.rollback`.
    """
    try:
        with settled(state, name, rolled_back=False):
            restored = registry.rollback(state, name, functools.partial(_record_rollback, state))
            write_scores(state, name, restored.run_id)
            return restored
    except UserError as error:
        folder = Path(error.where)
        if folder.name != "model" or folder.parent.parent.name != "runs":
            raise
        raise UserError(error.what, error.where, how_to_mend(folder.parent)) from None


def _record_rollback(state: Path, restored: Registered, replaced: str) -> None:
    line = Release(
        when=now(), name=restored.name, run=restored.run_id, weights=restored.weights_sha256,
        alias="rolled-back-to", instead_of=replaced,
    )  # fmt: skip
    registry.record(state, line)


def forced_of(run_folder: Path) -> Forced | None:
    """Who put this run in use against its decision; None if nobody did."""
    file = run_folder / FORCED
    return Forced.model_validate_json(read_stored(file)) if file.is_file() else None


def verify(run_folder: Path) -> Decision:
    """Return the run's decision if it passes and every file it is bound to is unchanged.

    Raises:
        UserError: naming the first file that speaks against promotion.
    """
    decision = read_decision(run_folder)
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
    return _verify_files(run_folder, decision)


def _verify_files(run_folder: Path, decision: Decision) -> Decision:
    bound = {
        "spec.yaml": (decision.bindings.spec, _sha256_if_there),
        "scores.json": (decision.bindings.scores, _sha256_if_there),
        "model": (decision.bindings.weights, weights_sha256),
    }
    for name, (sha256, hashed) in bound.items():
        try:
            found = hashed(run_folder / name)
        except UserError as error:  # a model folder without weights, or that is none
            raise UserError(error.what, error.where, how_to_mend(run_folder)) from None
        except OSError:  # such as a folder in the place of a file
            found = "unreadable"
        if found != sha256:
            raise UserError(
                f"this run cannot be promoted: {name} is not the one the decision was made on",
                f"{run_folder / name} (sha256 {found[:12]}, the decision says {sha256[:12]})",
                how_to_mend(run_folder),
            )
    if (damage := find_run_damage(run_folder)) is not None:
        what = f"this run cannot be promoted: {damage.file.name} {damage.what}"
        raise UserError(what, str(damage.file), how_to_mend(run_folder, damage))
    return decision


def _draft_of(run_folder: Path) -> IncrementRecord | None:
    """The record of an increment's run; None of any other."""
    file = run_folder / DRAFT
    return IncrementRecord.model_validate_json(read_stored(file)) if file.is_file() else None


def read_decision(run_folder: Path) -> Decision:
    """The decision of a run, if it is the one that the run was finished with.

    Raises:
        UserError: there is no such run or no decision, or it is damaged.
    """
    file = run_folder / "decision.json"
    if not run_folder.is_dir():
        known = sorted(folder.name for folder in run_folder.parent.glob("*") if folder.is_dir())
        raise UserError(
            f"there is no run '{run_folder.name}'",
            str(run_folder),
            f"known runs: {', '.join(known[-10:])}" if known else "start one with `rootstock run SPEC`",
        )
    record = read_record(run_folder)
    if isinstance(record, Damage):
        what = f"this run cannot be promoted: {record.file.name} {record.what}"
        raise UserError(what, str(record.file), how_to_mend(run_folder))
    found = _sha256_if_there(file)
    if record is not None and record.decision and found != record.decision:
        what = "this run cannot be promoted: decision.json is not the one it was finished with"
        raise UserError(what, str(file), how_to_mend(run_folder))
    if found == "missing":
        raise UserError(
            "this run cannot be promoted: it has no decision yet", str(file), how_to_mend(run_folder)
        )
    try:
        return Decision.model_validate_json(read_stored(file))
    except ValidationError as error:
        raise UserError(
            f"this run cannot be promoted: its decision is not one this program wrote ({error.errors()[0]['msg']})",
            str(file),
            how_to_mend(run_folder),
        ) from None


def _model_name(run_folder: Path) -> str:
    value = read_yaml(run_folder / "spec.yaml").value
    return str(value["name"])
