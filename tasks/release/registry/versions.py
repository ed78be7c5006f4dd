"""Which model is in use: MLflow's registry on SQLite (`registry.db` in the state folder).

A registered model is a run specification's `name`; each version is one run's model folder, kept relative to the
state folder so that the state can be moved. The aliases say what is in use: `champion`, `challenger` (passed,
waits for approval) and `previous` (what a rollback returns to). MLflow takes seconds to import, so it is imported
only where a registry exists or is to be made.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.commands import command
from schemas.errors import UserError
from schemas.results.artifacts import Verdict
from tasks.release.registry.mlflow_store import open_registry
from tasks.release.registry.releases import FILE as RECORD
from tasks.release.registry.releases import SEALED, Release, append, last_seals
from tasks.release.registry.soundness import ROLLING_BACK, require_sound, rolling_back
from tasks.training.models.judged import weights_sha256

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

_CHAMPION, _CHALLENGER, _PREVIOUS = "champion", "challenger", "previous"


@dataclass(frozen=True)
class Registered:
    """One version of a registered model."""

    name: str
    version: int
    run_id: str
    model_folder: Path
    weights_sha256: str


@dataclass(frozen=True)
class HistoryEntry:
    """One line of a model's history."""

    version: int
    run_id: str
    verdict: str
    aliases: tuple[str, ...]
    time: datetime
    """When the run was registered, UTC."""
    forced: str = ""
    """Who put it in use against its decision, and why."""


def register(
    state: Path,
    name: str,
    run_id: str,
    model_folder: Path,
    weights_sha256: str,
    decision_sha256: str,
    verdict: Verdict,
    forced: str | None = None,
) -> int:
    """Return the version of this run's model, making one if there is none.

    Registering the same run and weights again returns the same version and brings its verdict up to date.

    Raises:
        UserError: the model folder lies outside the state folder.
    """
    source = _relative_to_state(state, model_folder)
    client = _client(state)
    _create_model(client, name)
    tags = {
        "run_id": run_id,
        "weights_sha256": weights_sha256,
        "decision_sha256": decision_sha256,
        "verdict": verdict,
        **({} if forced is None else {"forced": forced}),
    }
    for found in client.search_model_versions(f"name='{name}'"):
        if found.tags.get("run_id") == run_id and found.tags.get("weights_sha256") == weights_sha256:
            for key in tags:
                if found.tags.get(key) != tags[key]:
                    client.set_model_version_tag(name, str(found.version), key, tags[key])
            return int(found.version)
    return int(client.create_model_version(name, source=source, tags=tags).version)


def exists(state: Path) -> bool:
    """Whether anything was ever registered.

    Raises:
        MachineFailed: the registry is damaged or gone.
    """
    return require_sound(state)


def champion(state: Path, name: str) -> Registered | None:
    """Return the model in use, or None if none was ever promoted."""
    if not require_sound(state):
        return None
    return _by_alias(state, _client(state), name, _CHAMPION)


def decisions(state: Path, name: str) -> int:
    """Count the runs of a name that were decided, whichever way."""
    if not require_sound(state):
        return 0
    return len({found.tags.get("run_id") for found in _client(state).search_model_versions(f"name='{name}'")})


def decision_of(state: Path, name: str, run_id: str) -> str | None:
    """sha256 of the decision that a run was registered with; None if it never was."""
    if not _database(state).exists():
        return None
    found = [v for v in _client(state).search_model_versions(f"name='{name}'") if v.tags["run_id"] == run_id]
    return max(found, key=lambda v: int(v.version)).tags["decision_sha256"] if found else None


def set_champion(state: Path, name: str, version: int) -> None:
    """Put a version in use; the one it replaces becomes `previous`.

    `previous` moves first: killed in between, the old champion stays in use, and doing it again ends the same.
    """
    client = _client(state)
    aliases = _aliases(client, name)
    old = aliases.get(_CHAMPION)
    if old is not None and old != version:
        client.set_registered_model_alias(name, _PREVIOUS, str(old))
    if old != version:
        client.set_registered_model_alias(name, _CHAMPION, str(version))
    if aliases.get(_CHALLENGER) == version:
        client.delete_registered_model_alias(name, _CHALLENGER)
    if ROLLING_BACK in aliases:
        client.delete_registered_model_alias(name, ROLLING_BACK)


def set_challenger(state: Path, name: str, version: int) -> None:
    """Let a version that passed wait for approval. The champion itself has nothing to wait for."""
    client = _client(state)
    if _aliases(client, name).get(_CHAMPION) != version:
        client.set_registered_model_alias(name, _CHALLENGER, str(version))


def rollback(
    state: Path, name: str, on_move: Callable[[Registered, str], None] = lambda _restored, _replaced: None
) -> Registered:
    """Put `previous` in use again; what it replaces becomes `previous`, so a second rollback returns.

    `on_move` is told what comes into use, and the run that it replaces, before anything moves.

    Raises:
        UserError: there is nothing to roll back to, or its files are not what was promoted.
    """
    client = _existing(state, name)
    aliases = _aliases(client, name)
    replaced = aliases.get(ROLLING_BACK, aliases.get(_CHAMPION))
    moved = aliases.get(_CHAMPION) != replaced
    target = aliases.get(_CHAMPION) if moved else aliases.get(_PREVIOUS)
    if replaced is None or target is None or target == replaced:
        raise UserError(
            f"'{name}' has no previous champion to roll back to",
            str(_database(state)),
            f"see `{command('rootstock', 'history', name)}`; `rootstock promote RUN` puts another run in use",
        )
    restored = _registered(state, client.get_model_version(name, str(target)))
    _require_same_weights(restored)
    client.set_registered_model_alias(name, ROLLING_BACK, str(replaced))
    on_move(restored, client.get_model_version(name, str(replaced)).tags["run_id"])
    client.set_registered_model_alias(name, _CHAMPION, str(target))
    client.set_registered_model_alias(name, _PREVIOUS, str(replaced))
    client.delete_registered_model_alias(name, ROLLING_BACK)
    return restored


def history(state: Path, name: str) -> list[HistoryEntry]:
    """Return every version of a model, newest first.

    Raises:
        UserError: no model of this name is registered.
    """
    client = _existing(state, name)
    named: dict[int, list[str]] = {}
    for alias, version in _aliases(client, name).items():
        named.setdefault(version, []).append(alias)
    entries = [
        HistoryEntry(
            version=int(found.version),
            run_id=found.tags["run_id"],
            verdict=found.tags["verdict"],
            aliases=tuple(sorted(named.get(int(found.version), []))),
            time=datetime.fromtimestamp(found.creation_timestamp / 1000, UTC),
            forced=found.tags.get("forced", ""),
        )
        for found in client.search_model_versions(f"name='{name}'")
    ]
    return sorted(entries, key=lambda entry: -entry.version)


def as_record(state: Path) -> list[Release]:
    """Everything that the registry holds, as the record of releases would have it."""
    client = open_registry(_database(state).resolve())
    lines: list[Release] = []
    for model in client.search_registered_models(max_results=1000):
        held = _aliases(client, model.name)
        found = client.search_model_versions(f"name='{model.name}'")
        by_number = {int(v.version): _as_line(v) for v in sorted(found, key=lambda v: int(v.version))}
        lines += by_number.values()
        for alias in (_CHALLENGER, _CHAMPION, _PREVIOUS):
            if alias in held:
                lines.append(by_number[held[alias]].model_copy(update={"alias": alias}))
    return lines


def _as_line(found: "ModelVersion") -> Release:
    when = datetime.fromtimestamp(found.creation_timestamp / 1000, UTC).isoformat(timespec="milliseconds")
    tags = found.tags
    return Release(
        when=when, name=found.name, run=tags["run_id"], weights=tags["weights_sha256"], verdict=tags["verdict"],
        decision=tags["decision_sha256"], forced=tags.get("forced", ""),
    )  # fmt: skip


def _database(state: Path) -> Path:
    return state / "registry.db"


def _client(state: Path) -> "MlflowClient":
    require_sound(state)
    return open_registry(_database(state).resolve())


def _create_model(client: "MlflowClient", name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _existing(state: Path, name: str) -> "MlflowClient":
    """Open the registry of a model that must be there."""
    known: list[str] = []
    if require_sound(state):
        client = _client(state)
        known = sorted(model.name for model in client.search_registered_models(max_results=1000))
        if name in known:
            return client
    raise UserError(
        f"no model named '{name}' is registered",
        str(_database(state)),
        f"known: {', '.join(known)}"
        if known
        else "nothing is registered yet; start with `rootstock run SPEC`",
    )


def _aliases(client: "MlflowClient", name: str) -> dict[str, int]:
    return {alias: int(version) for alias, version in client.get_registered_model(name).aliases.items()}


def _by_alias(state: Path, client: "MlflowClient", name: str, alias: str) -> Registered | None:
    from mlflow.exceptions import MlflowException

    try:
        return _registered(state, client.get_model_version_by_alias(name, alias))
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def _registered(state: Path, found: "ModelVersion") -> Registered:
    return Registered(
        name=found.name,
        version=int(found.version),
        run_id=found.tags["run_id"],
        model_folder=state / str(found.source),
        weights_sha256=found.tags["weights_sha256"],
    )


def _relative_to_state(state: Path, model_folder: Path) -> str:
    try:
        return model_folder.resolve().relative_to(state.resolve()).as_posix()
    except ValueError:
        raise UserError(
            "a registered model must lie inside the state folder",
            str(model_folder),
            f"copy the run's folder into {state / 'runs'}",
        ) from None


def _require_same_weights(model: Registered) -> None:
    """Refuse a model whose files were removed or changed since it was registered."""
    if weights_sha256(model.model_folder) != model.weights_sha256:
        raise UserError(
            f"version {model.version} of '{model.name}' is not the model that was promoted: its files have changed",
            str(model.model_folder),
            f"restore the folder from a backup, or run the specification of {model.run_id} again",
        )


def record(state: Path, line: Release) -> None:
    """Add to the record of releases; where there is none yet, it begins with all that the registry holds."""
    known = [] if (state / RECORD).exists() else as_record(state)
    write_lines(state, [*known, line])


def write_lines(state: Path, lines: Sequence[Release]) -> None:
    """Add lines to the record of releases, and keep the seals of the last ones in the registry."""
    added = append(state, lines)
    client = open_registry(_database(state).resolve())
    for name, seal in last_seals(added).items():
        client.set_registered_model_tag(name, SEALED, seal)


def finish_rollback(state: Path, name: str, on_move: Callable[[Registered, str], None]) -> None:
    """Bring a rollback to its end that was killed half-way."""
    if rolling_back(state, name):
        rollback(state, name, on_move)
