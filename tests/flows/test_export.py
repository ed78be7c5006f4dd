"""What is merged answers as the run's model did, with a head too; an adapter on an adapter never leaves by itself."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from flows.models import export as export_merged
from flows.models.export import export_run
from flows.progress.watch import Silent
from flows.run.journey import Outcome, follow
from schemas.errors import UserError
from schemas.spec.run import RunSpec
from tasks.release.export import export
from tasks.training.models.load import load_model
from tests.corpora import here
from tests.flows.test_increments import growing, once, rows, write
from tests.tiny_base import make_base
from tests.tiny_encoder import make_encoder
from tests.toy_heads import toy_spec, toy_texts

LORA = {"kind": "lora", "r": 4, "alpha": 8}
FEW = {"epochs": 1, "learning_rate": 5e-3}
TEXT, WORD = "text_classification", "token_classification"


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bases")
    return {
        "encoder": make_encoder(folder / "encoder", toy_texts()),
        "causal": make_base(folder / "causal"),
    }


def run_head(folder: Path, base: Path, kind: str, method: dict[str, Any] = LORA) -> Outcome:
    spec = {**toy_spec(folder, kind, base, training=FEW), "method": method}
    return follow(RunSpec.model_validate(spec), folder / "state", Silent(), map_shards=here)


@pytest.mark.parametrize(
    ("kind", "family"), [(TEXT, "encoder"), (WORD, "encoder"), (TEXT, "causal"), (WORD, "causal")]
)
def test_a_merged_model_with_a_head_is_the_scored_one(tmp_path, bases, kind, family):
    run = run_head(tmp_path, bases[family], kind).folder
    said = export_run(run / "model", tmp_path / "out", True, tmp_path / "state")
    assert "largest logit difference" in said
    assert "suites of its run the largest difference of a score is 0 " in said
    ids = torch.arange(5, 15)[None]
    merged, beside = load_model(tmp_path / "out"), load_model(run / "model")
    assert torch.allclose(merged(input_ids=ids).logits, beside(input_ids=ids).logits, atol=1e-4)
    assert not (tmp_path / "out" / "adapter_config.json").exists()


def test_a_merged_model_that_is_another_is_not_left_behind(tmp_path, bases, monkeypatch):
    run = run_head(tmp_path, bases["encoder"], TEXT).folder
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    with pytest.raises(UserError, match="not equivalent: logits differ by"):
        export_run(run / "model", tmp_path / "out" / "here", True, tmp_path / "state")
    monkeypatch.undo()
    monkeypatch.setattr(export_merged, "SUITE_TOLERANCE", -1.0)
    with pytest.raises(
        UserError, match=r"the merged model scores 0\.\d+ on 'domain', the run's model"
    ) as error:
        export_run(run / "model", tmp_path / "out" / "here", True, tmp_path / "state")
    assert "side by side" in error.value.fix
    assert list((tmp_path / "out").iterdir()) == []


def test_without_the_data_it_says_that_nothing_was_scored(tmp_path, bases):
    run = run_head(tmp_path, bases["encoder"], TEXT).folder
    for file in tmp_path.glob("*.jsonl"):
        file.unlink()
    said = export_run(run / "model", tmp_path / "out", True, tmp_path / "state")
    assert "not scored: " in said
    model = shutil.copytree(run / "model", tmp_path / "elsewhere" / "model")
    said = export_run(model, tmp_path / "other", True, tmp_path / "state")
    assert "not scored: this is no run's model" in said


@pytest.mark.slow
def test_an_adapter_on_an_adapter_leaves_merged_only_and_is_found_after_a_move(tmp_path):
    state = tmp_path / "state"
    easy = {
        "min_gain": 0,
        "max_forgetting": 5,
        "absolute": {"domain": 9},
    }  # six steps leave it above the floor
    spec = growing(tmp_path, method=LORA, promotion=easy)
    write(tmp_path / "new" / "a.txt", rows("graft scion rootstock", 60))
    first = once(spec, state)
    write(tmp_path / "new" / "b.txt", rows("keel mast rudder", 60))
    second = once(spec, state)
    assert [one.decision.verdict for one in (first, second)] == ["promote", "promote"]
    with pytest.raises(UserError, match="the base of this adapter is itself an adapter") as error:
        export_run(second.folder / "model", tmp_path / "alone", False, state)
    assert "--merge" in error.value.fix
    assert not (tmp_path / "alone").exists()
    ids = torch.arange(5, 25)[None]
    wanted = load_model(second.folder / "model")(input_ids=ids).logits

    moved = state.rename(tmp_path / "moved")
    model = moved / "runs" / second.folder.name / "model"
    assert torch.equal(load_model(model)(input_ids=ids).logits, wanted)
    said = export_run(model, tmp_path / "merged", True, moved)
    assert "suites of its run" in said
    assert torch.allclose(load_model(tmp_path / "merged")(input_ids=ids).logits, wanted, atol=1e-4)
