"""Mistakes in a specification of several tasks, each at its line, before anything is read."""

from pathlib import Path

import pytest

from data_contracts.contract import list_contracts
from schemas.errors import UserErrors
from schemas.reading.load import load_spec

GOOD = """\
name: together
base: assets/base
objective:
  kind: multi_task
  tasks:
    - {name: spam, kind: text_classification, weight: 2}
    - {name: people, kind: token_classification}
domain:
  - {path: spam.csv, contract: labeled_text, task: spam}
  - {path: people.conll, contract: tagged_tokens, task: people}
mixture: {replay_ratio: 0}
training: {epochs: 1, learning_rate: 1e-3}
evaluation: {domain_holdout: 0.2}
promotion: {min_gain: 0.1}
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "assets" / "base").mkdir(parents=True)
    (tmp_path / "assets" / "base" / "config.json").write_text("{}")
    for name in ("spam.csv", "people.conll", "other.csv"):
        (tmp_path / name).write_text("x")


def load(text: str):
    Path("spec.yaml").write_text(text)
    return load_spec(Path("spec.yaml"), (), list_contracts())


def refused(text: str) -> list[tuple[str, str, str]]:
    with pytest.raises(UserErrors) as raised:
        load(text)
    return [(error.what, error.where.removeprefix("spec.yaml:"), error.fix) for error in raised.value.errors]


def test_a_good_one_says_what_each_source_holds() -> None:
    spec = load(GOOD)
    assert [spec.record_of(source) for source in spec.domain] == ["labeled_text", "tagged_tokens"]
    assert spec.head_kind == "token_classification"
    assert spec.objective.named["spam"].objective.metric == "accuracy"


CHANGES = {
    "unknown task": (
        ("task: spam}", "task: spamm}"), "9", "domain.0.task: there is no task 'spamm'", "did you mean spam? known: spam, people",
    ),
    "no task": (
        (", task: people}", "}"), "10", "domain.1.task: it does not say which task its rows are for", "add `task: NAME`, known: spam, people",
    ),
    "contract of other rows": (
        ("labeled_text, task: spam", "tagged_tokens, task: spam"), "9",
        "contract 'tagged_tokens' is for tagged words, but task spam reads texts with a label",
        "name a contract for texts with a label, or another task",
    ),
    "format of other rows": (
        ("path: people.conll", "path: other.csv"), "10", "domain.1.path: a csv file does not hold tagged words", "conll, jsonl, json",
    ),
    "metric of entities": (
        ("kind: token_classification}", "kind: token_classification, metric: macro_f1}"), "7",
        "objective.tasks.1: metric: entities are scored by their exact spans", "remove it",
    ),
    "one name twice": (
        ("name: people", "name: spam"), "3", "objective: two tasks are called spam", "give each a name of its own",
    ),
    "an unknown key of a task": (
        ("weight: 2", "wieght: 2"), "6", "objective.tasks.0.wieght is not a key of objective.tasks.0", "weight",
    ),
    "adapters per task of one task": (
        ("objective:\n  kind: multi_task", "method: {kind: adapter_pfeiffer, per_task: true}\nobjective:\n  kind: multi_task"), None, "", "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_a_mistake_is_named_at_its_line(name: str) -> None:
    (old, new), line, what, fix = CHANGES[name]
    assert GOOD.count(old) == 1
    text = GOOD.replace(old, new)
    if line is None:
        assert load(text).method.per_task
        return
    found = [one for one in refused(text) if one[0].startswith(what)]
    assert len(found) == 1, refused(text)
    assert found[0][1] == line
    assert fix in found[0][2]


def test_a_task_without_a_source_is_named_at_the_task() -> None:
    text = GOOD.replace("  - {path: people.conll, contract: tagged_tokens, task: people}\n", "")
    (what, line, fix), *_ = refused(text)
    assert (what, line) == ("objective.tasks.1: no source of domain is for task people", "7")
    assert "add one with `task: people`" in fix


def test_a_suite_of_its_own_needs_every_task_too() -> None:
    scored = "evaluation: {domain: [{path: other.csv, contract: labeled_text, task: spam}]}"
    (what, line, _), *_ = refused(GOOD.replace("evaluation: {domain_holdout: 0.2}", scored))
    assert (what, line) == ("objective.tasks.1: no source of evaluation.domain is for task people", "7")


ALONE = GOOD.replace(
    GOOD[GOOD.index("objective:") : GOOD.index("domain:")], "objective: {kind: text_classification}\n"
)


def test_one_task_has_no_name_and_no_adapters_of_its_own() -> None:
    text = ALONE.replace("  - {path: people.conll, contract: tagged_tokens, task: people}\n", "")
    text += "method: {kind: adapter_pfeiffer, per_task: true}\n"
    assert [(what, line) for what, line, _ in refused(text)] == [
        ("domain.0.task: only objective multi_task has tasks", "5"),
        ("method.per_task: only objective multi_task has several tasks", "10"),
    ]
