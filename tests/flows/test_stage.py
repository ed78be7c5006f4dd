"""What a stage's state says."""

from pathlib import Path

import pytest
from prefect.states import Failed

from schemas.errors import ContractFailed, ExitCode, MachineFailed, TrainingFailed, UserError, UserErrors
from tasks.stage import machine_failed, result_of, run_stage, stopped
from tasks.storage.steps import StepPlan, run_step

MISTAKE = UserError("a word is wrong", "spec.yaml:3", "write another")


def step(root: Path, content: str = "a") -> StepPlan:
    return StepPlan(root=root, name="write", inputs={}, settings=content, code="1")


def write(folder: Path) -> dict[str, int]:
    (folder / "out.txt").write_text("x")
    return {"n": 1}


def test_a_stage_that_found_its_steps_on_disk_is_cached(tmp_path: Path) -> None:
    first = run_stage(tmp_path, lambda: run_step(step(tmp_path), write))
    second = run_stage(tmp_path, lambda: run_step(step(tmp_path), write))
    assert (first.name, second.name) == ("Completed", "Cached")
    assert result_of(second).facts == {"n": 1}


def test_a_stage_that_did_one_new_step_of_two_is_not_cached(tmp_path: Path) -> None:
    run_step(step(tmp_path, "old"), write)
    state = run_stage(tmp_path, lambda: [run_step(step(tmp_path, text), write) for text in ("old", "new")])
    assert state.name == "Completed"


def test_a_step_that_was_damaged_and_written_again_is_not_cached(tmp_path: Path) -> None:
    done = run_step(step(tmp_path), write)
    (done.folder / "out.txt").write_text("torn off")
    assert run_stage(tmp_path, lambda: run_step(step(tmp_path), write)).name == "Completed"


def test_a_mistake_shows_its_three_lines_and_comes_out_as_it_was(tmp_path: Path) -> None:
    def work() -> None:
        raise MISTAKE

    state = run_stage(tmp_path, work)
    assert state.is_failed()
    assert state.message == "a word is wrong\n  where: spec.yaml:3\n  fix: write another"
    with pytest.raises(UserError) as caught:
        result_of(state)
    assert caught.value is MISTAKE


def test_a_defect_of_ours_is_not_dressed_up_as_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        run_stage(tmp_path, lambda: 1 // 0)


def test_being_asked_to_stop_is_cancelled_not_failed() -> None:
    error = TrainingFailed("training was asked to stop", "step 8", "run it again")
    error.exit_code = ExitCode.TERMINATED
    assert stopped(error).is_cancelled()


@pytest.mark.parametrize(
    ("failure", "again"),
    [
        (OSError("stale file handle"), True),
        (ConnectionResetError(), True),
        (MachineFailed("a training died", "a cell", "run it again"), False),
        (MISTAKE, False),
        (ContractFailed("broken", "a:1", "mend"), False),
        (TypeError("ours"), False),
    ],
)
def test_only_failures_of_machines_are_tried_again(failure: Exception, again: bool) -> None:
    assert machine_failed(None, None, Failed(data=failure)) is again


def test_mistakes_cross_process_borders_whole() -> None:
    import pickle

    contract = ContractFailed("broken", "a:1", "mend")
    contract.reports = ("a report",)
    for error in (MISTAKE, UserErrors([MISTAKE, UserError("b", "c", "d")]), contract):
        copy = pickle.loads(pickle.dumps(error))
        assert str(copy) == str(error)
        assert copy.exit_code == error.exit_code
    assert pickle.loads(pickle.dumps(contract)).reports == ("a report",)
