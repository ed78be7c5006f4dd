"""Every file below runs/ can be read as it is, and what it names is there."""

import os
from pathlib import Path

import pytest

from data_contracts.contract import list_contracts
from flows.comparing.load import load_comparison, load_remedy_comparison
from schemas.reading.load import load_spec
from tests.command_line import ROOT

BROUGHT = (
    ".rootstock/quickstart/python_reference.jsonl",  # what `make run` collects
    *(f"data/{part}/rows.jsonl" for part in ("domain", "general", "general_heldout")),
    "data/metamath/train.jsonl",
    "data/gsm8k/test.jsonl",
    "data/wikitext/test.txt",
)
"""What a file's header tells people to put there."""
FILES = sorted(str(file.relative_to(ROOT)) for file in (ROOT / "runs").rglob("*.yaml"))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project as it is, with a file wherever people are told to put one."""
    for name in ("runs", "assets", "data_contracts"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in BROUGHT:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_there_are_files_of_every_kind() -> None:
    assert {Path(file).parent.name for file in FILES} == {"runs", "compare", "remedies"}


@pytest.mark.parametrize("file", FILES)
def test_a_file_to_copy_has_no_mistake(project: Path, file: str) -> None:
    text = Path(file).read_text(encoding="utf-8")
    shared = [line.partition(": ")[2].strip() for line in text.splitlines() if line.startswith("spec: ")]
    text += "".join(Path(name).read_text(encoding="utf-8") for name in shared)
    if "$ROOTSTOCK_DATA" in text and "ROOTSTOCK_DATA" not in os.environ:
        pytest.skip("reads the data folder, and ROOTSTOCK_DATA does not name one")
    match Path(file).parent.name:
        case "runs":
            load_spec(Path(file), (), list_contracts())
        case "compare":
            load_comparison(Path(file))
        case "remedies":
            load_remedy_comparison(Path(file))
