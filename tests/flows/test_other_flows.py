"""The flows `check-contracts`, `evaluate-model` and `promote` against a real Prefect server."""

from pathlib import Path
from typing import Any

import pytest
from prefect import Flow

from flows.check_contracts import check_contracts
from flows.evaluate_model import evaluate_model_flow
from flows.promote_model import promote_model
from tests.tiny import Followed, artifacts_of, ended

pytestmark = pytest.mark.usefixtures("prefect_api")


def follow(flow: Flow[..., Any], **form: Any) -> Any:
    """Run a flow in this process, and read back its run."""
    return ended(flow(**form, return_state=True))


def test_data_that_keeps_its_contract_completes_with_every_rule_in_a_table(tiny_files: Path) -> None:
    run = follow(check_contracts, contract="general_text", data=[str(tiny_files / "general.txt")])
    assert run.state_type.value == "COMPLETED"
    assert run.state.message == "contract general_text 1.0.0: passed on 120 rows"
    assert '"result": "pass"' in artifacts_of(run.id)["general-text-contracts"].data


def test_data_that_breaks_its_contract_fails_with_three_lines_and_the_table(tmp_path: Path) -> None:
    bad = tmp_path / "bad.txt"
    bad.write_text("q7z\n" * 100)
    run = follow(check_contracts, contract="domain_text", data=[str(bad)])
    assert run.state_type.value == "FAILED"
    what, where, fix = run.state.message.split("\n")
    assert "text_not_short" in what
    assert f"{bad}:1" in where
    assert "rootstock check domain_text" in fix
    table = artifacts_of(run.id)["domain-text-contracts"].data
    assert '"result": "FAIL"' in table
    assert "q7z" not in table


def test_a_file_that_is_not_there_fails_with_three_lines(tmp_path: Path) -> None:
    run = follow(check_contracts, contract="domain_text", data=[str(tmp_path / "none.txt")])
    assert run.state_type.value == "FAILED"
    assert [line.split(":")[0].strip() for line in run.state.message.split("\n")[1:]] == ["where", "fix"]


def test_a_model_is_scored_on_the_suites_of_a_specification(finished: Followed, tiny_files: Path) -> None:
    model = finished.state / "runs" / finished.run.name / "model"
    spec, state = str(tiny_files / "tiny.yaml"), str(finished.state)
    run = follow(evaluate_model_flow, model=str(model), spec=spec, state=state)
    assert run.state_type.value == "COMPLETED"
    assert run.state.message.startswith("loss in nats per token: domain ")
    assert '"suite": "domain"' in artifacts_of(run.id)["tiny-evaluation"].data


def test_a_model_that_is_not_there_fails_with_three_lines(finished: Followed, tiny_files: Path) -> None:
    run = follow(
        evaluate_model_flow, model="./nowhere", spec=str(tiny_files / "tiny.yaml"), state=str(finished.state)
    )
    assert run.state_type.value == "FAILED"
    assert len(run.state.message.split("\n")) == 3


def test_a_run_that_passed_is_promoted(finished: Followed) -> None:
    run = follow(promote_model, run=finished.run.name, state=str(finished.state))
    assert run.state_name == "Promoted"
    assert run.state.message.startswith(f"{finished.run.name} is champion of tiny (version ")
    assert "tiny-verdict" in artifacts_of(run.id)


def test_an_unknown_run_is_not_promoted_and_the_known_ones_are_named(finished: Followed) -> None:
    run = follow(promote_model, run="tiny-0000000000", state=str(finished.state))
    assert run.state_type.value == "FAILED"
    assert run.state.message.startswith("there is no run 'tiny-0000000000'\n  where: ")
    assert finished.run.name in run.state.message
