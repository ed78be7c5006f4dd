"""Before a rejection for forgetting, a few steps on replay text tell what came back and what is gone."""

import pytest

from flows.continual_training import continual_training
from flows.progress.watch import Silent
from flows.replay import realign
from flows.replay.realign import probe_spec, worth_asking
from flows.run.journey import follow
from schemas.errors import ExitCode, TrainingFailed
from schemas.results.artifacts import Decision, RuleOutcome
from schemas.results.realignment import Realigned, Realignment
from tests.command_line import ROOT
from tests.corpora import make_spec, source, write_rows
from tests.tiny import artifacts_of, ended
from tests.tiny_base import prose


def rule(outcome: str, kind: str = "forgetting") -> RuleOutcome:
    return RuleOutcome(
        rule=kind, suite="zh", against="base", estimate=1, low=1, high=1, threshold=0, outcome=outcome,
        reason="", clusters=9,
    )  # fmt: skip


@pytest.fixture
def spec(tmp_path):
    chinese = [line[:300] for line in prose("zh_*")]
    write_rows(tmp_path / "domain.jsonl", [line[:300] for line in prose("en_*")])
    write_rows(tmp_path / "replay.jsonl", chinese[:60])
    write_rows(tmp_path / "zh.jsonl", chinese[60:])
    return make_spec(
        base=str(ROOT / "assets" / "base"),
        domain=[source(tmp_path / "domain.jsonl")],
        replay=[source(tmp_path / "replay.jsonl")],
        mixture={"replay_ratio": 0},
        training={"steps": 12, "sequence_length": 64, "batch_tokens": 512, "learning_rate": 5e-3},
        evaluation={"domain_holdout": 0.2, "general": [source(tmp_path / "zh.jsonl")]},
        promotion={"min_gain": 0, "max_forgetting": 0.05, "realign_steps": 4},
    )


def test_only_a_failed_forgetting_rule_of_a_run_with_replay_text_is_asked_about(spec):
    assert worth_asking(spec, [rule("fail")])
    assert not worth_asking(spec, [rule("undecided"), rule("fail", "gain")])
    assert not worth_asking(spec.model_copy(update={"replay": ()}), [rule("fail")])
    off = spec.promotion.model_copy(update={"realign_steps": 0})
    assert not worth_asking(spec.model_copy(update={"promotion": off}), [rule("fail")])


def test_the_probe_trains_on_replay_text_alone_and_on_no_suite(spec):
    probe = probe_spec(spec)
    assert [s.path for s in probe.domain] == [s.path for s in spec.replay]
    assert (probe.training.steps, probe.training.epochs, probe.training.tokens) == (4, None, None)
    assert probe.evaluation == spec.evaluation, "its rows are found and removed from the replay text"


def test_shallow_means_nothing_beyond_the_limit_is_left_with_confidence():
    def found(high: float) -> Realignment:
        suite = Realigned(suite="zh", before=1.0, after=0.02, low=0.0, high=high)
        return Realignment(steps=4, limit=0.05, suites=(suite,))

    assert found(0.04).shallow
    assert "the knowledge is still there" in found(0.04).sentence
    assert not found(0.06).shallow
    assert "forgotten for good" in found(0.06).sentence
    assert found(0.06).suites[0].restored == pytest.approx(0.98)


def test_a_probe_that_cannot_be_made_does_not_prevent_the_verdict(monkeypatch):
    failure = TrainingFailed("AdaLoRA needs more steps", "method", "raise training.steps")

    def fail(*given):
        raise failure

    monkeypatch.setattr(realign, "realign", fail)
    notes: list[str] = []
    assert realign.ask(notes.append) is None
    assert notes == ["the re-alignment cannot be made: AdaLoRA needs more steps"]
    failure.exit_code = ExitCode.TERMINATED
    with pytest.raises(TrainingFailed):
        realign.ask(notes.append)


@pytest.mark.slow
def test_a_run_from_the_champion_by_hand_is_rejected_and_explained_too(spec, tmp_path):
    """The champion stands in the base's place there, and no rule names it champion."""
    easy = spec.promotion.model_copy(update={"max_forgetting": 99, "confidence": 0.51})
    gentle = spec.training.model_copy(update={"learning_rate": 1e-3})
    gentle_spec = spec.model_copy(update={"promotion": easy, "training": gentle})
    first = follow(gentle_spec, tmp_path / "state", Silent())
    assert first.decision.verdict == "promote"
    on = spec.model_copy(update={"base": None, "base_from": "champion"})
    on = on.model_copy(
        update={"training": spec.training.model_copy(update={"learning_rate": 0.02, "seed": 3})}
    )
    decision = follow(on, tmp_path / "state", Silent()).decision
    assert decision.verdict == "reject"
    assert decision.realignment is not None


@pytest.mark.slow
def test_a_rejected_run_tells_what_came_back(spec, tmp_path):
    outcome = follow(spec, tmp_path / "state", Silent())
    decision = outcome.decision
    assert decision.verdict == "reject"
    probe = decision.realignment
    assert probe is not None
    assert probe.steps == 4
    (failed,) = [r for r in decision.rules if r.rule == "forgetting"]
    assert probe.suites[0].before == failed.estimate
    assert probe.suites[0].after < failed.estimate, "some of it comes back"
    assert probe.sentence[1:] in decision.next_action
    assert "Is it gone?" in (outcome.folder / "report.html").read_text()


def test_under_prefect_the_probe_is_made_of_tasks_and_leaves_the_runs_own_tables(spec, tmp_path, prefect_api):
    file = tmp_path / "spec.yaml"
    file.write_text(spec.model_dump_json(exclude_none=True))  # JSON is YAML
    run = ended(continual_training(spec=str(file), state=str(tmp_path / "state"), return_state=True))
    assert (run.state_type.value, run.state_name) == ("COMPLETED", "Rejected")
    decision = Decision.model_validate_json(
        (tmp_path / "state" / "runs" / run.name / "decision.json").read_bytes()
    )
    assert decision.realignment is not None
    ledgers = {key for key in artifacts_of(run.id) if key.endswith("-ledger")}
    assert ledgers == {f"{spec.name}-ledger", f"{spec.name}-realigned-ledger"}
