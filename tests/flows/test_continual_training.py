"""The flow `continual-training` against a real Prefect server."""

import shutil
from pathlib import Path
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
)

from schemas.results.artifacts import Decision
from tests.tiny import Followed, artifacts_of, follow_tiny, write_tiny

pytestmark = pytest.mark.usefixtures("prefect_api")


def tasks_of(run: UUID) -> dict[str, str]:
    """Task run's name -> its state's name."""
    with get_client(sync_client=True) as client:
        runs = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run])))
    return {task.name: task.state_name for task in runs}


def test_a_model_that_passes_ends_promoted_with_the_verdict_as_message(finished: Followed) -> None:
    assert (finished.run.state_type.value, finished.run.state_name) == ("COMPLETED", "Promoted")
    assert finished.run.state.message.startswith("Promote: loss on 'domain' fell by")


def test_the_flow_run_is_named_like_its_folder_and_tagged(finished: Followed) -> None:
    assert (finished.state / "runs" / finished.run.name / "complete.json").is_file()
    assert {"tiny", "full", "replay 0.25"} <= set(finished.run.tags)


def test_every_stage_is_a_task_of_its_own(finished: Followed) -> None:
    names = {
        "prepare",
        "provide-base",
        "tokenize",
        "score-base",
        "train",
        "score-candidate",
        "decide-and-report",
    }
    assert tasks_of(finished.run.id) == dict.fromkeys(names, "Completed")


def test_the_page_shows_ledger_contracts_mixture_suites_verdict_report_and_progress(
    finished: Followed,
) -> None:
    artifacts = artifacts_of(finished.run.id)
    assert {key: artifact.type for key, artifact in artifacts.items()} == {
        "tiny-ledger": "table",
        "tiny-contracts": "table",
        "tiny-mixture": "table",
        "tiny-suites": "table",
        "tiny-training": "progress",
        "tiny-scoring": "progress",
        "tiny-verdict": "markdown",
        "tiny-report": "markdown",
    }
    assert float(artifacts["tiny-training"].data) == 100.0


def test_the_verdict_names_every_rule_and_the_next_action(finished: Followed) -> None:
    decision = Decision.model_validate_json(
        (finished.state / "runs" / finished.run.name / "decision.json").read_bytes()
    )
    page = artifacts_of(finished.run.id)["tiny-verdict"].data
    assert decision.sentence in page
    assert all(
        f"| {rule.rule} | {rule.suite} | {rule.against} | {rule.estimate:+.4f} |" in page
        for rule in decision.rules
    )
    assert decision.next_action in page


def test_the_report_link_leads_to_the_report(finished: Followed) -> None:
    report = (finished.state / "runs" / finished.run.name / "report.html").absolute()
    assert report.is_file()
    assert f"({report.as_uri()})" in artifacts_of(finished.run.id)["tiny-report"].data


def test_the_log_on_the_page_has_the_notes_of_the_stages(finished: Followed) -> None:
    from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId

    with get_client(sync_client=True) as client:
        logs = client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[finished.run.id])))
    messages = [log.message for log in logs]
    assert any(message.startswith("mixture: ") for message in messages)
    assert any(message.startswith("ledger: ") for message in messages)


def test_a_finished_run_is_not_done_again_and_still_shows_its_verdict(
    finished: Followed, tiny_files: Path
) -> None:
    again = follow_tiny(tiny_files).run
    assert again.state_name == "Promoted"
    assert tasks_of(again.id) == {}
    assert set(artifacts_of(again.id)) == {"tiny-verdict", "tiny-report"}


def test_stages_whose_steps_are_on_disk_say_cached(finished: Followed, tiny_files: Path) -> None:
    """Another threshold changes the verdict only; and a rejected model is a completed run with a name."""
    other = follow_tiny(tiny_files, overrides=["promotion.min_gain=50"]).run
    assert (other.state_type.value, other.state_name) == ("COMPLETED", "Rejected")
    states = tasks_of(other.id)
    assert states.pop("decide-and-report") == "Completed"
    assert set(states.values()) == {"Cached"}


def test_a_gain_that_its_bounds_cannot_tell_from_the_threshold_ends_inconclusive(
    finished: Followed, tiny_files: Path
) -> None:
    file = finished.state / "runs" / finished.run.name / "decision.json"
    (gain,) = [r for r in Decision.model_validate_json(file.read_bytes()).rules if r.rule == "gain"]
    asked = ["name=unsure", f"promotion.min_gain={gain.estimate}", "promotion.confidence=0.999"]
    other = follow_tiny(tiny_files, overrides=asked).run
    assert (other.state_type.value, other.state_name) == ("COMPLETED", "Inconclusive")
    assert other.state.message.startswith("Inconclusive: ")
    assert tasks_of(other.id)["train"] == "Cached"


def test_the_forms_fields_reach_the_specification(finished: Followed, tiny_files: Path) -> None:
    other = follow_tiny(tiny_files, approval="manual", overrides=["name=other"]).run
    assert other.state_name == "AwaitingApproval"
    resolved = (finished.state / "runs" / other.name / "spec.yaml").read_text()
    assert "approval: manual" in resolved
    assert "name: other" in resolved


def test_a_wrong_specification_fails_with_its_three_lines(tiny_files: Path) -> None:
    run = follow_tiny(tiny_files, overrides=["mixture.replay_ration=0.1"]).run
    assert run.state_name == "Failed"
    what, where, fix = run.state.message.split("\n")
    assert "replay_ration" in what
    assert where.startswith("  where: --set mixture.replay_ration")
    assert fix.startswith("  fix: ")


def test_a_broken_contract_fails_with_its_three_lines_and_shows_every_rule(tmp_path: Path) -> None:
    files = write_tiny(tmp_path)
    (files / "domain.txt").write_text("q7z\n" * 200)
    run = follow_tiny(files).run
    assert run.state_name == "Failed"
    assert "contract" in run.state.message.split("\n")[0]
    assert "domain.txt:1" in run.state.message.split("\n")[1]
    table = artifacts_of(run.id)["tiny-contracts"].data
    assert '"result": "FAIL"' in table
    assert "q7z" not in table


def test_a_missing_step_folder_is_worked_again(finished: Followed, tiny_files: Path) -> None:
    """Prefect's own cache would answer from its records here."""
    for folder in (finished.state / "data").glob("tokenize-*"):
        shutil.rmtree(folder)
    run = follow_tiny(tiny_files, overrides=["promotion.min_gain=51"]).run
    states = tasks_of(run.id)
    assert (states["prepare"], states["tokenize"], states["train"]) == ("Cached", "Completed", "Cached")
