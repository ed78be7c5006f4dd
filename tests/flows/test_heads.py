"""Whole runs with a head: from labelled files to a verdict in fractions, a report and a model that knows its labels."""

from pathlib import Path

import pytest

from flows.models.evaluate import evaluate_model
from flows.progress.watch import Silent
from flows.run.journey import Outcome, follow
from schemas.errors import UserError
from schemas.results.scores import LabelSuite, Scores
from schemas.spec.run import RunSpec
from tasks.data.labels.model_head import read_head
from tests.corpora import here
from tests.tiny_base import make_base
from tests.tiny_encoder import make_encoder
from tests.toy_heads import labelled_rows, toy_spec, toy_texts, write_labelled

TEXT, WORD = "text_classification", "token_classification"
RATES = {(TEXT, "encoder"): 5e-3, (TEXT, "causal"): 5e-3, (WORD, "encoder"): 1e-2, (WORD, "causal"): 5e-3}


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bases")
    return {
        "encoder": make_encoder(folder / "encoder", toy_texts()),
        "causal": make_base(folder / "causal"),
    }


def run(folder: Path, spec: dict) -> Outcome:
    return follow(RunSpec.model_validate(spec), folder / "state", Silent(), map_shards=here)


def scores_of(outcome: Outcome) -> Scores:
    return Scores.model_validate_json((outcome.folder / "scores.json").read_bytes())


@pytest.mark.parametrize(
    ("kind", "family"),
    [
        (TEXT, "encoder"),
        pytest.param(TEXT, "causal", marks=pytest.mark.slow),
        pytest.param(WORD, "encoder", marks=pytest.mark.slow),
        (WORD, "causal"),
    ],
)
def test_a_separable_task_is_learnt_and_promoted_with_everything_left_behind(
    tmp_path, bases, kind, family
) -> None:
    spec = toy_spec(tmp_path, kind, bases[family], training={"learning_rate": RATES[kind, family]})
    outcome = run(tmp_path, spec)
    assert outcome.decision.verdict == "promote"
    scores = scores_of(outcome)
    (suite,) = scores.suites
    assert scores.yardstick is not None
    assert suite.value("base", scores.unit) < 0.6
    assert suite.value("candidate", scores.unit) > 0.85
    (rule,) = outcome.decision.rules
    assert rule.low > 0.1
    for name in (
        "ledger.json",
        "contracts.json",
        "metrics.jsonl",
        "lineage.json",
        "report.html",
        "complete.json",
    ):
        assert (outcome.folder / name).is_file(), name
    head = read_head(outcome.folder / "model")
    assert head is not None
    assert head[0] == kind
    expected = ("gardening", "sailing", "烹饪") if kind == TEXT else ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    assert head[1] == expected
    page = (outcome.folder / "report.html").read_text(encoding="utf-8")
    card = (outcome.folder / "model" / "README.md").read_text(encoding="utf-8")
    assert "nats per token" not in page
    assert "nats" not in card
    assert f"pipeline_tag: {kind.replace('_', '-')}" in card
    for text in (page, card):
        assert scores.yardstick in text
        assert expected[1] in text
    again = run(tmp_path, spec)
    assert not again.fresh
    rows = evaluate_model(
        RunSpec.model_validate(spec), tmp_path / "state", str(outcome.folder / "model"), Silent()
    )
    assert rows[0][{TEXT: "accuracy", WORD: "entity F1"}[kind]] == suite.value("candidate", scores.unit)


def test_the_champion_is_continued_with_a_new_label_and_really_scored(tmp_path, bases) -> None:
    rows = labelled_rows(240)
    spec = toy_spec(tmp_path, TEXT, bases["encoder"], training={"learning_rate": 5e-3})
    write_labelled(tmp_path / "trades.jsonl", [row for row in rows if row["label"] != "烹饪"])
    first = run(tmp_path, spec)
    assert first.decision.verdict == "promote"
    assert read_head(first.folder / "model")[1] == ("gardening", "sailing")
    write_labelled(
        tmp_path / "old.jsonl", [row for row in labelled_rows(150, seed=8) if row["label"] != "烹饪"]
    )
    write_labelled(tmp_path / "trades.jsonl", rows)
    del spec["base"]
    spec["evaluation"]["general"] = [{"path": str(tmp_path / "old.jsonl"), "contract": "labeled_text"}]
    second = run(tmp_path, {**spec, "base_from": "champion"})
    scores = scores_of(second)
    assert scores.yardstick is None, "the champion has a head: its real score is the one to beat"
    assert read_head(second.folder / "model")[1] == ("gardening", "sailing", "烹饪")
    domain, old = scores.suites
    assert isinstance(domain, LabelSuite)
    assert domain.accuracy("base") > 0.5
    assert all(item.predicted["base"] != "烹饪" for item in domain.items)
    assert domain.accuracy("candidate") > domain.accuracy("base")
    assert old.accuracy("base") > 0.9
    assert [rule.rule for rule in second.decision.rules] == ["gain", "forgetting", "absolute"]
    assert second.decision.verdict == "promote"


def test_a_suite_that_the_champion_cannot_answer_is_refused_before_training(tmp_path, bases) -> None:
    """Where the base has a head, a suite at the floor has no skill that could be forgotten."""
    spec = toy_spec(tmp_path, TEXT, bases["encoder"], training={"learning_rate": 5e-3})
    assert run(tmp_path, spec).decision.verdict == "promote"
    turned = {"gardening": "sailing", "sailing": "烹饪", "烹饪": "gardening"}
    wrong = [{**row, "label": turned[row["label"]]} for row in labelled_rows(60, seed=11)]
    write_labelled(tmp_path / "wrong.jsonl", wrong)
    del spec["base"]
    spec["evaluation"]["general"] = [{"path": str(tmp_path / "wrong.jsonl"), "contract": "labeled_text"}]
    with pytest.raises(UserError, match="no skill on suite 'wrong' that could be forgotten: its accuracy is"):
        run(tmp_path, {**spec, "base_from": "champion", "training": {**spec["training"], "seed": 18}})


def test_a_model_with_another_head_is_named_as_what_it_is(tmp_path, bases) -> None:
    spec = toy_spec(tmp_path, TEXT, bases["encoder"], training={"epochs": None, "steps": 1})
    model = run(tmp_path, spec).folder / "model"
    tagging = RunSpec.model_validate(toy_spec(tmp_path, WORD, bases["encoder"]))
    with pytest.raises(UserError, match="a model for text_classification, not for token_classification"):
        evaluate_model(tagging, tmp_path / "state", str(model), Silent())
