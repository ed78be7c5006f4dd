"""Whole runs of several tasks: from their files to one verdict on all of them."""

import csv
import os
from pathlib import Path

import pytest

from flows.comparing.load import load_comparison
from flows.models.evaluate import evaluate_model
from flows.progress.watch import Silent
from flows.run.journey import Outcome, follow
from schemas.errors import UserError
from schemas.results.scores import LabelSuite, Scores
from schemas.spec.run import RunSpec
from tasks.data.labels.model_head import read_tasks
from tests.corpora import here
from tests.tiny_encoder import make_encoder
from tests.toy_heads import toy_texts, write_labelled
from tests.toy_tasks import task_texts, tasks_spec

CLASSIFICATION = Path(os.environ.get("ROOTSTOCK_DATA", "")) / "data" / "classification"


def run(folder: Path, spec: dict) -> Outcome:
    return follow(RunSpec.model_validate(spec), folder / "state", Silent(), map_shards=here)


def scores_of(outcome: Outcome) -> Scores:
    return Scores.model_validate_json((outcome.folder / "scores.json").read_bytes())


@pytest.mark.slow
def test_texts_and_words_are_learnt_together_and_promoted_with_everything_left_behind(tmp_path) -> None:
    base = make_encoder(tmp_path / "encoder", toy_texts() + task_texts())
    spec = tasks_spec(tmp_path, base, ("trades", "tempers", "names"), training={"epochs": 15})
    outcome = run(tmp_path, spec)
    assert outcome.decision.verdict == "promote"
    assert [(rule.rule, rule.suite, rule.outcome) for rule in outcome.decision.rules] == [
        ("gain", task, "pass") for task in ("trades", "tempers", "names")
    ]
    scores = scores_of(outcome)
    assert (scores.unit, scores.yardstick) == ("score", "trivial baseline")
    assert [suite.unit for suite in scores.suites] == ["accuracy", "macro F1", "entity F1"]
    assert [task.name for task in read_tasks(outcome.folder / "model")] == ["trades", "tempers", "names"]
    page = (outcome.folder / "report.html").read_text(encoding="utf-8")
    card = (outcome.folder / "model" / "README.md").read_text(encoding="utf-8")
    for text in (page, card):
        assert "nats per token" not in text
        assert (
            "always giving the most frequent training label, or finding no entity at all, would score" in text
        )
        for name in ("trades/gardening", "tempers/hasty", "names/B-PER", "macro F1", "entity F1"):
            assert name in text
    rows = evaluate_model(
        RunSpec.model_validate(spec), tmp_path / "state", str(outcome.folder / "model"), Silent()
    )
    assert [row["score in its own unit"] for row in rows] == [s.value("candidate", "score") for s in scores.suites]  # fmt: skip


@pytest.mark.slow
def test_a_champion_of_several_tasks_is_continued_and_keeps_its_outputs(tmp_path) -> None:
    base = make_encoder(tmp_path / "encoder", toy_texts() + task_texts())
    spec = tasks_spec(tmp_path, base)
    first = run(tmp_path, spec)
    assert first.decision.verdict == "promote"
    del spec["base"]
    spec["training"] = {**spec["training"], "seed": 18, "epochs": 1, "learning_rate": 1e-3}
    spec["promotion"] = {"min_gain": 0}  # it knows them all: there is no room for more
    second = run(tmp_path, {**spec, "base_from": "champion"})
    scores = scores_of(second)
    assert scores.yardstick is None, "the champion can answer: its real score is the one to beat"
    assert scores.suites[0].value("base", scores.unit) > 0.8
    assert [suite.name for suite in scores.suites] == ["trades", "tempers"]


def test_a_comparison_of_several_tasks_is_refused(tmp_path, monkeypatch) -> None:
    from ruamel.yaml import YAML

    monkeypatch.chdir(tmp_path)
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text("{}")
    yaml = YAML(typ="safe")
    with (tmp_path / "spec.yaml").open("w") as file:
        yaml.dump(tasks_spec(tmp_path / "d", tmp_path / "base", count=3), file)
    (tmp_path / "compare.yaml").write_text(
        "name: both\nspec: spec.yaml\nmethods: [{kind: full}, {kind: lora}]\nlearning_rates: [1e-3]\nseeds: [1]\n"
    )
    with pytest.raises(UserError, match="ranks methods by one domain suite") as error:
        load_comparison(tmp_path / "compare.yaml")
    assert error.value.where == "spec.yaml"


@pytest.mark.slow
@pytest.mark.skipif("ROOTSTOCK_DATA" not in os.environ, reason="ROOTSTOCK_DATA is not set")
def test_real_intents_and_real_spam_are_both_learnt_better_than_their_yardsticks(tmp_path) -> None:
    """Six intents of Banking77 and SMS spam, on an encoder that was never pretrained."""
    with (CLASSIFICATION / "banking77_train.csv").open(encoding="utf-8") as file:
        rows = [{"text": row["text"], "label": row["category"]} for row in csv.DictReader(file)]
    kept = sorted({row["label"] for row in rows})[:6]
    intents = [row for row in rows if row["label"] in kept][:500]
    lines = (CLASSIFICATION / "sms_spam.tsv").read_text(encoding="utf-8").split("\n")
    pairs = [line.split("\t", 1) for line in lines if line.strip() and line.replace("\t", "").isprintable()]
    ham = [{"text": text, "label": label} for label, text in pairs if label == "ham"][:300]
    spam = [{"text": text, "label": label} for label, text in pairs if label == "spam"][:200]
    base = make_encoder(tmp_path / "encoder", [row["text"] for row in [*intents, *ham, *spam]])
    sources = []
    for name, found in (("intents", intents), ("spam", [*ham, *spam])):
        file = write_labelled(tmp_path / f"{name}.jsonl", found)
        sources.append({"path": str(file), "contract": "labeled_text", "task": name})
    outcome = run(
        tmp_path,
        {
            "name": "real",
            "base": str(base),
            "objective": {
                "kind": "multi_task",
                "tasks": [{"name": name, "kind": "text_classification"} for name in ("intents", "spam")],
            },
            "domain": sources,
            "mixture": {"replay_ratio": 0},
            "training": {"epochs": 12, "sequence_length": 48, "batch_tokens": 768, "learning_rate": 3e-3},
            "evaluation": {"domain_holdout": 0.3},
            "promotion": {"min_gain": 0.05},
        },
    )
    scores = scores_of(outcome)
    print({suite.name: (suite.value("base", "accuracy"), suite.value("candidate", "accuracy")) for suite in scores.suites})  # fmt: skip
    assert all(isinstance(suite, LabelSuite) for suite in scores.suites)
    assert {rule.suite: rule.outcome for rule in outcome.decision.rules} == {
        "intents": "pass",
        "spam": "pass",
    }
    assert all(rule.low > 0.05 for rule in outcome.decision.rules)
