"""Only a passing decision, bound to the files as they are now, puts a model in use."""

import json
from pathlib import Path

import pytest

from schemas.errors import UserError
from schemas.results.artifacts import Decision
from tasks.release.promotion.promotion import nominate, promote, promote_by_hand, verify
from tasks.release.record.run_record import FILE, close_run
from tasks.release.registry import versions as registry
from tasks.storage.hashing import sha256_file
from tests.release.conftest import MakeRun


def refusal(state: Path, run: Path) -> UserError:
    with pytest.raises(UserError) as caught:
        promote(state, run)
    assert registry.champion(state, "medical") is None
    return caught.value


def test_a_passing_run_becomes_champion(state: Path, make_run: MakeRun) -> None:
    promoted = promote(state, make_run("one"))
    assert registry.champion(state, "medical") == promoted
    assert promoted.run_id == "one"


def test_promoting_twice_changes_nothing(state: Path, make_run: MakeRun) -> None:
    run = make_run("one")
    assert promote(state, run) == promote(state, run)
    (entry,) = registry.history(state, "medical")
    assert entry.aliases == ("champion",)


def test_a_nominated_run_waits_until_it_is_promoted(state: Path, make_run: MakeRun) -> None:
    run = make_run("one")
    nominate(state, run)
    assert registry.champion(state, "medical") is None
    assert registry.history(state, "medical")[0].aliases == ("challenger",)
    promote(state, run)
    assert registry.history(state, "medical")[0].aliases == ("champion",)


@pytest.mark.parametrize(("outcome", "verdict"), [("fail", "reject"), ("undecided", "inconclusive")])
def test_a_run_that_did_not_pass_is_refused_with_its_next_action(
    state: Path, make_run: MakeRun, outcome: str, verdict: str
) -> None:
    run = make_run("one", outcome)
    error = refusal(state, run)
    assert f"'{verdict}'" in error.what
    assert error.where == str(run / "decision.json")
    assert error.fix == "Add domain text."
    with pytest.raises(UserError):
        nominate(state, run)


@pytest.mark.parametrize(
    "file",
    ["spec.yaml", "scores.json", "model/model.safetensors", "model/config.json", "model/tokenizer.json"],
)
def test_any_changed_byte_is_refused_and_named(state: Path, make_run: MakeRun, file: str) -> None:
    run = make_run("one")
    changed = run / file
    changed.write_bytes(changed.read_bytes() + b" ")
    error = refusal(state, run)
    named = Path(file).parts[0]
    assert f"{named} is not the one the decision was made on" in error.what
    assert str(run / named) in error.where
    assert "run the specification again" in error.fix


@pytest.mark.parametrize("file", ["spec.yaml", "scores.json", "decision.json", "model/model.safetensors"])
def test_a_missing_file_is_refused_and_named(state: Path, make_run: MakeRun, file: str) -> None:
    run = make_run("one")
    (run / file).unlink()
    error = refusal(state, run)
    assert Path(file).parts[0] in error.where
    assert "again" in error.fix


def test_a_file_added_to_the_model_is_refused(state: Path, make_run: MakeRun) -> None:
    run = make_run("one")
    (run / "model" / "added_tokens.json").write_text("{}")
    assert refusal(state, run).where.startswith(str(run / "model"))


def test_writing_the_model_card_does_not_break_the_binding(state: Path, make_run: MakeRun) -> None:
    run = make_run("one")
    (run / "model" / "README.md").write_text("# a card")
    assert promote(state, run).run_id == "one"


def test_a_verdict_edited_by_hand_is_refused(state: Path, make_run: MakeRun) -> None:
    run = make_run("one", "fail")
    decision = json.loads((run / "decision.json").read_text())
    (run / "decision.json").write_text(json.dumps({**decision, "verdict": "promote"}))
    error = refusal(state, run)
    assert "does not follow from the rules" in error.what
    assert error.where == str(run / "decision.json")


def test_a_decision_without_rules_is_refused(state: Path, make_run: MakeRun) -> None:
    run = make_run("one")
    decision = json.loads((run / "decision.json").read_text())
    (run / "decision.json").write_text(json.dumps({**decision, "rules": []}))
    assert "no rule" in refusal(state, run).what


def test_a_decision_without_bounds_is_read_and_refused(state: Path, make_run: MakeRun) -> None:
    run = make_run("one", "undecided")
    text = (run / "decision.json").read_text()
    decision = Decision.model_validate_json(text)
    rule = decision.rules[0].model_copy(update={"low": float("-inf"), "high": float("inf")})
    (run / "decision.json").write_text(decision.model_copy(update={"rules": (rule,)}).model_dump_json())
    assert "'inconclusive'" in refusal(state, run).what


def test_an_unknown_run_is_answered_with_the_known_ones(state: Path, make_run: MakeRun) -> None:
    make_run("one")
    with pytest.raises(UserError) as caught:
        verify(state / "runs" / "two")
    assert "'two'" in caught.value.what
    assert caught.value.where == str(state / "runs" / "two")
    assert caught.value.fix == "known runs: one"


@pytest.mark.parametrize(
    "name", ["spec.yaml", "scores.json", "decision.json", "incumbent.json", "model/config.json", FILE]
)
def test_a_file_of_a_finished_run_that_is_damaged_in_any_way_is_named_with_a_way_out(
    state: Path, make_run: MakeRun, name: str
) -> None:
    run = make_run("one")
    (run / "incumbent.json").write_text('{"champion": null, "turn": 0}')
    close_run(run, sha256_file(run / "decision.json"), "medical", None, written=True)
    assert verify(run).verdict == "promote"
    whole = (run / name).read_bytes()
    for damaged in (whole[:-1] + bytes([whole[-1] ^ 1]), b"", None, "a folder"):
        (run / name).unlink()
        if damaged == "a folder":
            (run / name).mkdir()
        elif isinstance(damaged, bytes):
            (run / name).write_bytes(damaged)
        with pytest.raises(UserError) as caught:
            promote_by_hand(state, run)
        assert Path(name).parts[0] in caught.value.where
        assert "rootstock run " in caught.value.fix
        if (run / name).is_dir():
            (run / name).rmdir()
        if name == "spec.yaml":
            assert (run / name).read_bytes() == whole, "the record has a second copy"
        (run / name).write_bytes(whole)
    assert promote_by_hand(state, run).run_id == "one"
