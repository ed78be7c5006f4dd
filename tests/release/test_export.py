"""A copied model is the scored one, byte for byte, and nothing is overwritten."""

import shutil
from pathlib import Path

import pytest

from schemas.errors import UserError
from tasks.release.export import export
from tasks.release.export.export import export_model
from tests.release.conftest import MakeRun


def test_a_full_model_is_copied_whole(make_run: MakeRun, tmp_path: Path) -> None:
    model = make_run("one") / "model"
    (model / "README.md").write_text("card")
    said = export_model(model, tmp_path / "deep" / "out", merge=False)
    assert "full weights copied" in said
    assert {p.name: p.read_bytes() for p in model.iterdir()} == {
        p.name: p.read_bytes() for p in (tmp_path / "deep" / "out").iterdir()
    }


def test_an_existing_folder_is_never_written_to(make_run: MakeRun, tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "mine").write_text("x")
    with pytest.raises(UserError, match="exists already"):
        export_model(make_run("one") / "model", target, merge=False)
    assert [p.name for p in target.iterdir()] == ["mine"]


def test_full_weights_cannot_be_merged(make_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing to merge") as error:
        export_model(make_run("one") / "model", tmp_path / "out", merge=True)
    assert error.value.fix == "leave out --merge"
    assert not (tmp_path / "out").exists()


def test_a_copy_that_differs_is_taken_back(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copyfile

    def faulty(source: Path, target: Path) -> Path:
        copy(source, target)
        if target.suffix == ".safetensors":
            target.write_bytes(b"broken disk")
        return target

    monkeypatch.setattr(export.shutil, "copyfile", faulty)
    with pytest.raises(UserError, match="differs"):
        export_model(make_run("one") / "model", tmp_path / "out", merge=False)
    assert not (tmp_path / "out").exists()
