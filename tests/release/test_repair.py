"""A registry that is damaged or gone is named by every verb, and comes back by the command that they print."""

import json
import shlex
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli.doctor import _state
from flows.cli.main import app
from schemas.errors import ExitCode, MachineFailed, UserError
from tasks.release.promotion.promotion import nominate, promote, refuse, rollback
from tasks.release.promotion.rebuild import repair
from tasks.release.record.run_record import close_run
from tasks.release.registry import incumbent
from tasks.release.registry import versions as registry
from tasks.release.registry.releases import FILE, read
from tasks.storage.hashing import sha256_file
from tests.release.conftest import MakeRun


def flip_header(file: Path) -> None:
    file.write_bytes(b"X" + file.read_bytes()[1:])


def flip_inside(file: Path) -> None:
    """Break every page but the first."""
    content = bytearray(file.read_bytes())
    for page in range(4096, len(content), 4096):
        content[page : page + 8] = b"\xff" * 8
    file.write_bytes(content)


def become_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def become_another(file: Path) -> None:
    """What an earlier version made of an empty file: a sound registry that knows nothing."""
    file.unlink()
    from tasks.release.registry.mlflow_store import open_registry

    open_registry(file)


def lose_champion(file: Path) -> None:
    with closing(sqlite3.connect(file)) as database:
        database.execute("UPDATE registered_model_aliases SET alias = 'chbmpion' WHERE alias = 'champion'")
        database.commit()


def lose_link(file: Path) -> None:
    file.unlink()
    file.symlink_to("nowhere.db")


DAMAGES: dict[str, Callable[[Path], None]] = {
    "a flipped header": flip_header,
    "flipped pages": flip_inside,
    "truncated to half": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "truncated to a header": lambda file: file.write_bytes(file.read_bytes()[:50]),
    "empty": lambda file: file.write_bytes(b""),
    "deleted": Path.unlink,
    "a folder": become_folder,
    "another registry": become_another,
    "text": lambda file: file.write_text("hello\n"),
    "without its champion": lose_champion,
    "a link to nothing": lose_link,
}


@pytest.fixture
def released(state: Path, make_run: MakeRun) -> Path:
    """Four runs: one champion after a rollback, one previous, one challenger, one rejected; and another name."""
    for name in ("one", "two"):
        promote(state, make_run(name))
    refuse(state, make_run("three", "fail"))
    promote(state, make_run("four", "fail"), "the rule is about [/board]\nanother domain")
    rollback(state, "medical")
    nominate(state, make_run("five"))
    promote(state, make_run("law-1", name="law"))
    for run in (state / "runs").iterdir():
        name = "law" if run.name == "law-1" else "medical"
        close_run(run, sha256_file(run / "decision.json"), name, None, written=True)
    return state


def verbs(state: Path) -> dict[str, Callable[[], object]]:
    """Everything that asks the registry."""

    def command(*arguments: str) -> Callable[[], object]:
        return lambda: CliRunner().invoke(app, [*arguments, "--state", str(state)], catch_exceptions=False)

    return {
        "history": command("history", "medical"),
        "promote": command("promote", "five"),
        "rollback": command("rollback", "medical"),
        "generate": command("generate", "medical", "a prompt"),
        "export": command("export", "medical", "--to", str(state / "out")),
        "run": lambda: incumbent.pin(state, "medical", state / "runs" / "five"),
    }


FAST = ("empty", "deleted")
"""A registry is made anew in each case, which takes seconds: the others are tried with the slow tests."""


@pytest.mark.parametrize(
    "damage", [d if d in FAST else pytest.param(d, marks=pytest.mark.slow) for d in DAMAGES]
)
def test_every_verb_names_it_and_the_printed_remedy_brings_all_back(damage: str, released: Path) -> None:
    before = {name: registry.history(released, name) for name in ("medical", "law")}
    assert {a for entry in before["medical"] for a in entry.aliases} == {"champion", "previous", "challenger"}
    database = released / "registry.db"
    DAMAGES[damage](database)
    left = database.read_bytes() if database.is_file() else None
    fixes = set()
    for verb, ask in verbs(released).items():
        with pytest.raises(MachineFailed) as caught:
            ask()
        assert caught.value.exit_code == ExitCode.MACHINE_FAILED, verb
        assert caught.value.where == str(database), verb
        fixes.add(caught.value.fix)
    assert (database.read_bytes() if database.is_file() else None) == left, "it was left as it is"
    (fix,) = fixes
    program, *arguments = shlex.split(fix.partition(": ")[2])
    assert program == "rootstock"
    said = CliRunner().invoke(app, [*arguments, "--dry-run"], catch_exceptions=False)
    assert "version 2 two (champion)" in said.stdout
    assert (database.read_bytes() if database.is_file() else None) == left, "only said"
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.stdout
    for name, entries in before.items():
        after = registry.history(released, name)
        assert [replace(entry, time=entries[0].time) for entry in after] == [
            replace(entry, time=entries[0].time) for entry in entries
        ]
        pairs = zip(after, entries, strict=True)
        assert all(abs((a.time - b.time).total_seconds()) < 60 for a, b in pairs), "of the release, not now"
    kept = list(released.glob("registry.db.damaged-*"))
    assert len(kept) == (damage != "deleted")
    assert left is None or kept[0].read_bytes() == left
    again = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert "nothing to repair" in again.stdout
    assert promote(released, released / "runs/five").run_id == "five"
    assert rollback(released, "medical").run_id == "two"


def test_left_overs_of_sqlite_lose_nothing(released: Path) -> None:
    before = registry.history(released, "medical")
    for ending in ("-wal", "-shm", "-journal"):
        (released / f"registry.db{ending}").write_bytes(b"left over" * 100)
        assert registry.history(released, "medical") == before, ending
        (released / f"registry.db{ending}").unlink(missing_ok=True)


@pytest.mark.slow
def test_a_damaged_record_is_written_anew_from_the_registry(released: Path) -> None:
    before = registry.history(released, "medical")
    file = released / FILE
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([lines[0], '{"name": 5}\n', *lines[2:]]))
    with pytest.raises(MachineFailed) as caught:
        registry.champion(released, "medical")
    assert caught.value.where == f"{file}:2"
    _, *arguments = shlex.split(caught.value.fix.partition(": ")[2])
    assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 0
    (released / "registry.db").unlink()
    assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 0
    assert [(e.run_id, e.aliases) for e in registry.history(released, "medical")] == [
        (e.run_id, e.aliases) for e in before
    ]


@pytest.mark.slow
def test_without_a_record_a_damaged_registry_comes_from_the_runs(released: Path) -> None:
    (released / FILE).unlink()
    (released / "registry.db").write_bytes(b"")
    with pytest.raises(MachineFailed, match="it is empty"):
        registry.champion(released, "medical")
    command = ["doctor", "--repair", "--state", str(released)]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert "a rollback is not in them" in done.stdout
    assert {e.run_id for e in registry.history(released, "medical")} == {
        "one",
        "two",
        "three",
        "four",
        "five",
    }
    assert len(read(released)) == 6
    shutil.rmtree(released / "runs")
    (released / FILE).unlink()
    (released / "registry.db").write_bytes(b"")
    with pytest.raises(MachineFailed, match="nothing says what was released"):
        CliRunner().invoke(app, command, catch_exceptions=False)


@pytest.mark.slow
def test_an_older_states_record_begins_with_what_its_registry_holds(
    released: Path, make_run: MakeRun
) -> None:
    (released / FILE).unlink()
    before = registry.history(released, "medical")
    refuse(released, make_run("six", "fail"))
    (released / "registry.db").unlink()
    done = CliRunner().invoke(app, ["doctor", "--repair", "--state", str(released)], catch_exceptions=False)
    assert done.exit_code == 0
    assert registry.history(released, "medical")[1:] == before


def test_a_line_torn_by_a_kill_is_passed_over_and_the_next_is_whole(
    released: Path, make_run: MakeRun
) -> None:
    whole = len(read(released))
    with (released / FILE).open("a") as out:
        out.write('{"when": "2026-')
    assert len(read(released)) == whole
    refuse(released, make_run("six", "fail"))
    assert [line.run for line in read(released)][-1] == "six"


def test_what_never_released_anything_is_no_loss(tmp_path: Path) -> None:
    assert registry.champion(tmp_path, "medical") is None
    done = CliRunner().invoke(app, ["doctor", "--repair", "--state", str(tmp_path)], catch_exceptions=False)
    assert "nothing to repair" in done.stdout
    with pytest.raises(UserError, match="no model named"):
        registry.history(tmp_path, "medical")
    assert not (tmp_path / "registry.db").exists()


def set_in(registry_db: Path, statement: str) -> None:
    with closing(sqlite3.connect(registry_db)) as database:
        database.execute(statement)
        database.commit()


def drop_last_line(state: Path) -> None:
    lines = (state / FILE).read_text().splitlines(keepends=True)
    (state / FILE).write_text("".join(lines[:-1]))


def change_a_character(state: Path) -> None:
    text = (state / FILE).read_text()
    (state / FILE).write_text(text.replace('"run":"two"', '"run":"twe"', 1))


def change_a_hash(state: Path) -> None:
    lines = (state / FILE).read_text().splitlines(keepends=True)
    weights = json.loads(lines[0])["weights"]
    (state / FILE).write_text("".join(lines).replace(weights, "0" * 64))


ALIAS = "UPDATE registered_model_aliases SET version = 1 WHERE alias = 'champion' AND name = 'medical'"
TAG = "UPDATE model_version_tags SET value = 'f00' WHERE key = 'weights_sha256' AND version = 2"
SOURCE = "UPDATE model_versions SET source = 'runs/one/model' WHERE name = 'medical' AND version = 2"
DISAGREEMENTS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "an alias of the registry": ("registry.db", lambda state: set_in(state / "registry.db", ALIAS)),
    "a tag of the registry": ("registry.db", lambda state: set_in(state / "registry.db", TAG)),
    "a folder of the registry": ("registry.db", lambda state: set_in(state / "registry.db", SOURCE)),
    "an older registry": ("registry.db", lambda state: (state / "older.db").replace(state / "registry.db") and None),
    "a character of the record": (FILE, change_a_character),
    "a hash of the record": (FILE, change_a_hash),
    "the record's last line": (FILE, drop_last_line),
    "an emptied record": (FILE, lambda state: (state / FILE).write_text("") and None),
}  # fmt: skip


AT_ONCE = ("an alias of the registry", "a character of the record", "the record's last line")


@pytest.mark.parametrize(
    "what", [d if d in AT_ONCE else pytest.param(d, marks=pytest.mark.slow) for d in DISAGREEMENTS]
)
def test_whichever_of_registry_and_record_has_changed_is_named_and_comes_back_from_the_other(
    state: Path, make_run: MakeRun, what: str
) -> None:
    for run in ("one", "two"):
        promote(state, make_run(run))
    shutil.copy(state / "registry.db", state / "older.db")
    rollback(state, "medical")
    rollback(state, "medical")
    refuse(state, make_run("law-1", "fail", name="law"))
    promote(state, make_run("three"))
    rollback(state, "medical")
    before = registry.history(state, "medical")
    blamed, damage = DISAGREEMENTS[what]
    other = state / ({"registry.db", FILE} - {blamed}).pop()
    damage(state)
    left = other.read_bytes()
    for ask in (
        lambda: registry.champion(state, "medical"),
        lambda: promote(state, state / "runs/one"),
        lambda: rollback(state, "medical"),
    ):
        with pytest.raises(MachineFailed) as caught:
            ask()
        assert caught.value.where.startswith(str(state / blamed))
    told = _state(state)[-1]
    assert told["what"] == "registry of models"
    assert told["found"] == caught.value.what
    notes: list[str] = []
    assert repair(state, notes.append, really=True)
    assert [(e.version, e.run_id, e.aliases) for e in registry.history(state, "medical")] == [
        (e.version, e.run_id, e.aliases) for e in before
    ]
    if blamed == "registry.db":
        assert other.read_bytes() == left, "the record stays as it is"
    assert not repair(state, notes.append, really=True)
    assert rollback(state, "medical").run_id == "three"
