"""What a remedy tells of its training is in the report."""

from dataclasses import replace
from pathlib import Path

from tests.release.made_up import made_up
from tests.release.test_report import render, words


def test_every_remedy_is_shown_with_its_numbers(tmp_path: Path) -> None:
    told = {"weight_averaging": {"alpha": 0.7, "curve": [{"alpha": 0.0}]}, "ewc": {"penalty_nats": 0.0123}}
    page = words(render(tmp_path, replace(made_up(), remedies=told)))
    assert "Remedy weight_averaging alpha 0.7" in page
    assert "Remedy ewc penalty nats 0.0123" in page
    assert "Remedy" not in words(render(tmp_path, made_up()))
