"""A model is put in use against its decision only with a reason, and who did so is kept."""

import json
from pathlib import Path

import pytest

from schemas.errors import UserError
from schemas.spec.run import RunSpec
from tasks.release.promotion import promotion
from tasks.release.record.run_record import find_run_damage
from tasks.release.registry import versions as registry
from tasks.release.run.run_folder import RunFolder
from tests.release.conftest import MakeRun
from tests.release.made_up import spec as made_up_spec


def test_a_forced_promotion_keeps_who_when_why_and_which_rules_speak_against_it(
    state: Path, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "ada")
    run = make_run("one", "fail")
    decision = (run / "decision.json").read_bytes()
    promotion.promote(state, run, "the suite holds last year's spelling")
    champion = registry.champion(state, "medical")
    assert champion is not None
    assert champion.run_id == "one"
    kept = json.loads((run / "forced.json").read_bytes())
    assert (kept["who"], kept["why"]) == ("ada", "the suite holds last year's spelling")
    assert kept["when"].endswith("+00:00")
    assert kept["broken"] == ["The domain loss moved."]
    (entry,) = registry.history(state, "medical")
    assert (entry.verdict, entry.forced) == ("reject", "ada: the suite holds last year's spelling")
    assert (run / "decision.json").read_bytes() == decision, "the decision stays what it was"


@pytest.mark.parametrize("reason", ["", "  "])
def test_without_a_reason_nothing_is_forced(state: Path, make_run: MakeRun, reason: str) -> None:
    with pytest.raises(UserError, match="a forced promotion needs a reason"):
        promotion.promote(state, make_run("one", "fail"), reason)
    assert registry.champion(state, "medical") is None


def test_what_passed_cannot_be_forced(state: Path, make_run: MakeRun) -> None:
    with pytest.raises(UserError, match="there is nothing to force") as error:
        promotion.promote(state, make_run("one"), "to be sure")
    assert error.value.fix == "leave out --force: rootstock promote one"


def test_force_does_not_help_a_model_whose_files_were_changed(state: Path, make_run: MakeRun) -> None:
    run = make_run("one", "fail")
    (run / "model" / "model.safetensors").write_bytes(b"others")
    with pytest.raises(UserError, match="model is not the one the decision was made on"):
        promotion.promote(state, run, "I know better")
    assert registry.champion(state, "medical") is None


@pytest.mark.parametrize("also", ["forced.json", "complete.json"])
@pytest.mark.parametrize("damage", ["text", "a folder", "gone"])
def test_a_damaged_account_of_who_forced_it_is_written_anew_and_never_blessed(
    state: Path, make_run: MakeRun, damage: str, also: str
) -> None:
    run = make_run("one", "fail")
    (run / "incumbent.json").write_text('{"champion": null, "turn": 0}')
    (run / "report.html").write_text("all that a run leaves before its release")
    promotion.promote(state, run, "the suite: it is wrong")
    kept = json.loads((run / "forced.json").read_bytes())
    (run / "forced.json").unlink()
    if damage == "text":
        (run / "forced.json").write_text('{"who": "mallory"}')
    elif damage == "a folder":
        (run / "forced.json").mkdir()
    found = find_run_damage(run)
    assert found is not None
    assert found.file == run / "forced.json"
    (run / also).write_text("{") if not (run / also).is_dir() else None
    spec = RunSpec.model_validate({**made_up_spec().model_dump(exclude_none=True), "name": "medical"})
    again = RunFolder(state, spec, "one", {})
    again.start()  # as the printed remedy does
    for _ in range(2):
        again.close()
        told = json.loads((run / "forced.json").read_bytes())
        assert {key: told[key] for key in ("who", "why", "broken")} == {
            key: kept[key] for key in ("who", "why", "broken")
        }
        assert told["when"][:16] == kept["when"][:16]
        assert find_run_damage(run) is None
