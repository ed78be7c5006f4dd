"""Hashes that prove where a model came from."""

import hashlib
import json
from pathlib import Path

import pytest

from schemas.errors import UserError
from schemas.results.artifacts import Lineage
from tasks.release.record.lineage import build_lineage, write_lineage
from tasks.storage.code import project_version
from tasks.storage.hashing import sha256_file
from tasks.training.models.judged import weights_sha256
from tests.release.conftest import MakeRun


def test_the_weights_hash_does_not_depend_on_the_folders_place(state: Path, make_run: MakeRun) -> None:
    model = make_run("one") / "model"
    before = weights_sha256(model)
    assert weights_sha256(model.rename(state / "elsewhere")) == before


def test_the_weights_hash_notices_two_files_that_swap_their_content(make_run: MakeRun) -> None:
    model = make_run("one") / "model"
    before = weights_sha256(model)
    config, tokenizer = model / "config.json", model / "tokenizer.json"
    first, second = config.read_bytes(), tokenizer.read_bytes()
    config.write_bytes(second)
    tokenizer.write_bytes(first)
    assert weights_sha256(model) != before


def test_a_folder_without_weights_has_no_hash(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        weights_sha256(tmp_path)
    assert "no weights" in caught.value.what
    assert caught.value.where == str(tmp_path)
    assert "run the specification again" in caught.value.fix


def test_lineage_holds_the_hash_of_everything_and_reads_back(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("one")
    contract = tmp_path / "domain_text.odcs.yaml"
    contract.write_text("id: domain_text\n")
    lineage = build_lineage(
        run="one",
        spec=run / "spec.yaml",
        data={"b.txt": "2" * 64, "a.txt": "1" * 64},
        contracts=[contract],
        base="b" * 64,
        base_name="tiny",
        model=run / "model",
        steps={"split": "s" * 64},
    )
    write_lineage(run / "lineage.json", lineage)
    assert Lineage.model_validate_json((run / "lineage.json").read_bytes()) == lineage
    assert list(json.loads((run / "lineage.json").read_text())["data"]) == ["a.txt", "b.txt"]
    assert lineage.spec == hashlib.sha256((run / "spec.yaml").read_bytes()).hexdigest()
    assert lineage.contracts == {"domain_text.odcs.yaml": sha256_file(contract)}
    assert lineage.weights == weights_sha256(run / "model")
    assert lineage.code == project_version()
    assert {"python", "torch", "pydantic", "mlflow-skinny"} <= set(lineage.versions)
