"""Versions and aliases on a real MLflow registry."""

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from schemas.errors import UserError
from tasks.release.registry import versions as registry
from tasks.training.models.judged import weights_sha256
from tests.release.conftest import MakeRun


def add(state: Path, run: Path, verdict: str = "promote", name: str = "medical") -> int:
    model = run / "model"
    return registry.register(state, name, run.name, model, weights_sha256(model), "d" * 64, verdict)


def aliases(state: Path) -> dict[str, int]:
    return registry._aliases(registry._client(state), "medical")


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours catches it."""


@contextmanager
def killed_after(updates: int) -> Iterator[None]:
    """Let so many alias updates reach the registry, then die before the next."""
    from mlflow import MlflowClient

    done = 0

    def dying(update: Callable[..., None]) -> Callable[..., None]:
        def count(*arguments: object) -> None:
            nonlocal done
            if done == updates:
                raise Killed
            done += 1
            update(*arguments)

        return count

    with pytest.MonkeyPatch.context() as patch:
        for name in ("set_registered_model_alias", "delete_registered_model_alias"):
            patch.setattr(MlflowClient, name, dying(getattr(MlflowClient, name)))
        with pytest.raises(Killed):
            yield


def test_registering_a_run_again_returns_the_same_version(state: Path, make_run: MakeRun) -> None:
    first, second = make_run("one"), make_run("two")
    assert [add(state, first), add(state, second), add(state, first)] == [1, 2, 1]
    assert len(registry.history(state, "medical")) == 2


def test_registering_a_run_again_brings_its_verdict_up_to_date(state: Path, make_run: MakeRun) -> None:
    run = make_run("one")
    add(state, run, "inconclusive")
    add(state, run, "promote")
    assert [entry.verdict for entry in registry.history(state, "medical")] == ["promote"]


def test_other_weights_of_the_same_run_are_another_version(state: Path, make_run: MakeRun) -> None:
    run = make_run("one")
    add(state, run)
    (run / "model" / "model.safetensors").write_bytes(b"trained anew")
    assert add(state, run) == 2


def test_a_champion_is_found_after_the_state_folder_moved(state: Path, make_run: MakeRun) -> None:
    registry.set_champion(state, "medical", add(state, make_run("one")))
    moved = state.rename(state.with_name("moved"))
    found = registry.champion(moved, "medical")
    assert found is not None
    assert found.model_folder == moved / "runs" / "one" / "model"
    assert found.weights_sha256 == weights_sha256(found.model_folder)
    assert (found.name, found.version, found.run_id) == ("medical", 1, "one")


def test_there_is_no_champion_before_the_first_promotion(state: Path, make_run: MakeRun) -> None:
    assert registry.champion(state, "medical") is None
    add(state, make_run("one"))
    assert registry.champion(state, "medical") is None


def test_without_a_registry_champion_imports_no_mlflow_and_makes_no_file(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; from tasks.release.registry.versions import champion;"
        f"assert champion(pathlib.Path({str(tmp_path)!r}), 'medical') is None;"
        "assert 'mlflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    assert list(tmp_path.iterdir()) == []


def test_a_new_registry_is_made_silently_and_without_telemetry(tmp_path: Path) -> None:
    program = (
        "import os, pathlib; from tasks.release.registry import versions as registry;"
        f"registry._client(pathlib.Path({str(tmp_path)!r}));"
        "assert os.environ['MLFLOW_DISABLE_TELEMETRY'] == 'true' and os.environ['DO_NOT_TRACK'] == '1'"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout + done.stderr == ""
    assert [file.name for file in tmp_path.iterdir()] == ["registry.db"]


def test_a_new_champion_makes_the_old_one_previous_and_ends_its_candidacy(
    state: Path, make_run: MakeRun
) -> None:
    for run in ("one", "two"):
        add(state, make_run(run))
    registry.set_champion(state, "medical", 1)
    registry.set_challenger(state, "medical", 2)
    assert aliases(state) == {"champion": 1, "challenger": 2}
    registry.set_champion(state, "medical", 2)
    assert aliases(state) == {"champion": 2, "previous": 1}


def test_promoting_the_champion_again_keeps_previous(state: Path, make_run: MakeRun) -> None:
    for run in ("one", "two"):
        registry.set_champion(state, "medical", add(state, make_run(run)))
    registry.set_champion(state, "medical", 2)
    assert aliases(state) == {"champion": 2, "previous": 1}


@pytest.mark.parametrize("updates_done", range(3))
def test_a_promotion_killed_between_its_aliases_ends_the_same_when_repeated(
    state: Path, make_run: MakeRun, updates_done: int
) -> None:
    for run in ("one", "two"):
        add(state, make_run(run))
    registry.set_champion(state, "medical", 1)
    registry.set_challenger(state, "medical", 2)
    with killed_after(updates_done):
        registry.set_champion(state, "medical", 2)
    assert registry.champion(state, "medical").version == (1 if updates_done < 2 else 2)
    registry.set_champion(state, "medical", 2)
    assert aliases(state) == {"champion": 2, "previous": 1}


def test_a_half_made_promotion_leaves_nothing_to_roll_back_to(state: Path, make_run: MakeRun) -> None:
    for run in ("one", "two"):
        add(state, make_run(run))
    registry.set_champion(state, "medical", 1)
    with killed_after(1):
        registry.set_champion(state, "medical", 2)
    with pytest.raises(UserError, match="no previous champion"):
        registry.rollback(state, "medical")


def test_rolling_back_twice_returns(state: Path, make_run: MakeRun) -> None:
    for run in ("one", "two"):
        registry.set_champion(state, "medical", add(state, make_run(run)))
    assert registry.rollback(state, "medical").run_id == "one"
    assert aliases(state) == {"champion": 1, "previous": 2}
    assert registry.rollback(state, "medical").run_id == "two"
    assert aliases(state) == {"champion": 2, "previous": 1}


@pytest.mark.parametrize("updates_done", range(4))
def test_a_rollback_killed_after_any_update_is_finished_not_reversed(
    state: Path, make_run: MakeRun, updates_done: int
) -> None:
    for run in ("one", "two"):
        registry.set_champion(state, "medical", add(state, make_run(run)))
    with killed_after(updates_done):
        registry.rollback(state, "medical")
    assert registry.rollback(state, "medical").version == 1
    assert aliases(state) == {"champion": 1, "previous": 2}


def test_a_promotion_after_a_killed_rollback_forgets_the_rollback(state: Path, make_run: MakeRun) -> None:
    for run in ("one", "two", "three"):
        add(state, make_run(run))
    for version in (1, 2):
        registry.set_champion(state, "medical", version)
    registry._client(state).set_registered_model_alias("medical", "rolling-back", "2")
    registry.set_champion(state, "medical", 3)
    assert registry.rollback(state, "medical").version == 2


def test_rollback_without_a_previous_champion_says_what_to_do(state: Path, make_run: MakeRun) -> None:
    registry.set_champion(state, "medical", add(state, make_run("one")))
    with pytest.raises(UserError) as caught:
        registry.rollback(state, "medical")
    assert "no previous champion" in caught.value.what
    assert "registry.db" in caught.value.where
    assert "rootstock promote" in caught.value.fix


@pytest.mark.parametrize("damage", ["changed", "removed"])
def test_rollback_refuses_a_model_whose_files_are_not_what_was_promoted(
    state: Path, make_run: MakeRun, damage: str
) -> None:
    for run in ("one", "two"):
        registry.set_champion(state, "medical", add(state, make_run(run)))
    model = state / "runs" / "one" / "model"
    if damage == "changed":
        (model / "model.safetensors").write_bytes(b"other")
    else:
        shutil.rmtree(model)
    with pytest.raises(UserError) as caught:
        registry.rollback(state, "medical")
    assert str(model) in caught.value.where
    assert aliases(state) == {"champion": 2, "previous": 1}


def test_history_is_newest_first_with_verdicts_and_aliases(state: Path, make_run: MakeRun) -> None:
    registry.set_champion(state, "medical", add(state, make_run("one")))
    add(state, make_run("two"), "reject")
    newest, oldest = registry.history(state, "medical")
    assert (newest.version, newest.run_id, newest.verdict, newest.aliases) == (2, "two", "reject", ())
    assert (oldest.version, oldest.run_id, oldest.verdict, oldest.aliases) == (
        1,
        "one",
        "promote",
        ("champion",),
    )
    assert oldest.time <= newest.time


@pytest.mark.parametrize("ask", [registry.history, registry.rollback])
def test_an_unknown_model_is_answered_with_the_known_ones(state: Path, make_run: MakeRun, ask) -> None:
    add(state, make_run("one"))
    with pytest.raises(UserError) as caught:
        ask(state, "legal")
    assert "'legal'" in caught.value.what
    assert "registry.db" in caught.value.where
    assert caught.value.fix == "known: medical"


def test_an_empty_state_is_answered_with_how_to_begin(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        registry.history(tmp_path, "medical")
    assert "rootstock run" in caught.value.fix


def test_a_model_outside_the_state_folder_is_refused(state: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        registry.register(state, "medical", "one", tmp_path / "elsewhere", "w" * 64, "d" * 64, "promote")
    assert "inside the state folder" in caught.value.what
    assert "elsewhere" in caught.value.where
    assert "runs" in caught.value.fix


def test_a_registry_of_another_mlflow_is_answered_with_the_upgrade_command(state: Path) -> None:
    with closing(sqlite3.connect(state / "registry.db")) as database:
        database.execute("UPDATE alembic_version SET version_num = '0123456789ab'")
        database.commit()
    with pytest.raises(UserError) as caught:
        registry.champion(state, "medical")
    assert "another version of MLflow" in caught.value.what
    assert "registry.db" in caught.value.where
    assert "mlflow db upgrade" in caught.value.fix
