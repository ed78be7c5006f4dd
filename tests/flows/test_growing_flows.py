"""The flows `backfill` and `look-for-data`: two increments for real, oldest first, and then nothing is new."""

from pathlib import Path
from typing import Any

import pytest

from flows.backfill import backfill_flow
from flows.look_for_data import look_for_data
from tasks.release.increments.watermark import load_watermark
from tasks.release.run.run_folder import dump_yaml
from tests.flows.test_increments import TRADES, growing, rows, write
from tests.tiny import artifacts_of, ended

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_api")]
MONTHS = ("2026-01", "2026-02")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("growing")
    spec = growing(folder, increments={"reference": True})
    (folder / "grown.yaml").write_text(dump_yaml(spec.model_dump(mode="json", exclude_none=True)))
    for month, trade in zip(reversed(MONTHS), TRADES, strict=False):
        write(folder / "new" / f"{month}.txt", rows(trade, 80))  # the newest is written first
    return folder


def form(files: Path) -> dict[str, Any]:
    return {"spec": str(files / "grown.yaml"), "state": str(files / "state"), "return_state": True}


@pytest.fixture(scope="module")
def before(prefect_api: None, files: Path) -> Any:
    """What `look-for-data` found before anything was learned."""
    return ended(look_for_data(**form(files)))


@pytest.fixture(scope="module")
def filled(before: Any, files: Path) -> Any:
    """Run of the flow `backfill` over both months."""
    return ended(backfill_flow(start="2026-01", stop="2026-02", **form(files)))


def test_new_files_are_found(before: Any) -> None:
    assert (before.state_type.value, before.state_name) == ("COMPLETED", "DataArrived")
    assert before.state.message == "increment 1 of trades: 2 new files"


def test_a_backfill_learns_month_after_month_each_from_the_one_before(filled: Any, files: Path) -> None:
    assert filled.state_type.value == "COMPLETED", filled.state
    assert filled.state.message == ", ".join(f"{month} promote" for month in MONTHS)
    records = load_watermark(files / "state", "trades").records
    assert [[Path(file).stem for file in record.files] for record in records] == [[m] for m in MONTHS]
    assert [record.parent for record in records] == [None, records[0].run]
    assert filled.name == "backfill trades"
    table = artifacts_of(filled.id)["trades-backfill"].data
    assert all(record.run in table for record in records)


def test_the_models_that_learn_an_increment_alone_are_trained_as_tasks_too(filled: Any, files: Path) -> None:
    records = load_watermark(files / "state", "trades").records
    assert [record.alone is not None for record in records] == [False, True]


def test_a_second_backfill_passes_over_what_was_learned(filled: Any, files: Path) -> None:
    again = ended(backfill_flow(**form(files)))
    assert again.state.message == ", ".join(f"{month} nothing new" for month in MONTHS)
    assert len(load_watermark(files / "state", "trades").records) == 2


def test_nothing_is_new_after_it(filled: Any, files: Path) -> None:
    run = ended(look_for_data(**form(files)))
    assert (run.state_type.value, run.state_name) == ("COMPLETED", "NoNewData")


def test_limits_without_files_fail_with_their_three_lines(before: Any, files: Path) -> None:
    run = ended(backfill_flow(start="2027-01", **form(files)))
    assert run.state_type.value == "FAILED"
    assert run.state.message.split("\n")[0] == "no file lies between these limits"
