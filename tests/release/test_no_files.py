"""A pipe, a device or bottomless JSON in the place of a stored file is damage with a remedy: no command waits or breaks at it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli.main import app
from schemas.errors import ExitCode, UserError
from tasks.release.promotion.promotion import promote_by_hand, settle
from tasks.release.record.run_record import FILE
from tasks.release.run.trace import trace_row
from tests.release.conftest import MakeRun
from tests.release.test_misplaced import two  # noqa: F401

KINDS: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a device": lambda file: file.symlink_to("/dev/zero"),
    "deep": lambda file: file.write_text('{"a":' * 100_000),
}


WRITTEN_ANEW = {"increments/medical.json": "and told", "seen/run-two.json": "in silence"}


def use(state: Path, place: str) -> None:
    settle(state, "medical")
    promote_by_hand(state, state / "runs/two")
    if place.endswith("lineage.json"):
        trace_row(state, "data.txt:1")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", KINDS)
def test_what_stands_in_the_place_of_a_stored_file_is_named_or_written_anew(
    two: Path,  # noqa: F811
    make_run: MakeRun,
    kind: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = [f"runs/two/{FILE}", "runs/two/spec.yaml", "runs/two/increment.json", "runs/two/decision.json", "runs/one/lineage.json",
              "releases.jsonl", "increments/medical.json", "increments/medical.intent.json", "seen/run-two.json"]  # fmt: skip
    for place in places:
        file = two / place
        file.parent.mkdir(exist_ok=True)
        kept = file.read_bytes() if file.exists() else None
        file.unlink(missing_ok=True)
        KINDS[kind](file)
        if place in WRITTEN_ANEW:
            use(two, place)
            assert str(file) in capsys.readouterr().err or WRITTEN_ANEW[place] == "in silence"
        else:
            with pytest.raises(UserError) as caught:
                use(two, place)
            assert str(file) in caught.value.where, place
            assert caught.value.exit_code in (ExitCode.BAD_SPECIFICATION, ExitCode.MACHINE_FAILED)
            assert caught.value.fix
        if os.path.lexists(file):
            file.unlink()
        if kept is not None:
            file.write_bytes(kept)
    use(two, "")


@pytest.mark.parametrize(
    "verb", [("history", "medical"), ("doctor", "--repair"), ("clean",), ("promote", "medical-0")]
)
def test_a_state_that_is_a_file_or_has_an_impossible_name_is_refused(
    tmp_path: Path, verb: tuple[str, ...]
) -> None:
    file = tmp_path / "grow.yaml"
    file.write_text("name: grow\n")
    for state, what in ((file, "this is a file, and no state folder"), (file / "in", "cannot be a state folder: Not a"),
                        (tmp_path / ("x" * 300), "cannot be a state folder: File name too long")):  # fmt: skip
        with pytest.raises(UserError, match=what) as caught:
            CliRunner().invoke(app, [*verb, "--state", str(state)], catch_exceptions=False)
        assert caught.value.exit_code == ExitCode.BAD_SPECIFICATION
        assert "--state" in caught.value.fix
    assert file.read_text() == "name: grow\n"
