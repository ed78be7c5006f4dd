"""`rootstock compare` on a tiny model: the same tokens for all, resumable, a refused method is told."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.comparing.load import load_comparison, load_remedy_comparison
from flows.comparing.methods import compare, final_cells, group_of, search_cells
from schemas.errors import UserError, UserErrors
from schemas.results.comparison import Comparison, Trained
from tests.command_line import ROOT, rootstock
from tests.corpora import write_rows
from tests.evaluation.test_ranking import result as trained_result
from tests.tiny_base import prose

Asked = list[tuple[str, float, int]]
SPEC = """\
name: tiny
base: {base}
domain: [{path: domain.jsonl, contract: domain_text}]
mixture: {replay_ratio: 0}
training: {steps: 6, sequence_length: 32, batch_tokens: 256, learning_rate: 1.0e-2}
evaluation: {domain_holdout: 0.2, general: [{path: general.jsonl, contract: general_text}]}
"""
COMPARISON = """\
name: small
spec: tiny.yaml
methods:
  - {kind: full}
  - {kind: lora, r: 4}
  - {kind: bitfit}
learning_rates: [1.0e-3, 1.0e-2]
further_rates: 0
seeds: [1, 2]
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_rows(tmp_path / "domain.jsonl", [line[:300] for line in prose("en_*")])
    write_rows(tmp_path / "general.jsonl", [line[:300] for line in prose("zh_*")[:20]])
    (tmp_path / "tiny.yaml").write_text(SPEC.replace("{base}", str(ROOT / "assets" / "base")))
    (tmp_path / "small.yaml").write_text(COMPARISON)
    return tmp_path


def load(place: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Comparison, object]:
    monkeypatch.chdir(place)
    (place / "other.yaml").write_text(text)
    return load_comparison(place / "other.yaml")


def search(place: Path, monkeypatch: pytest.MonkeyPatch, loss: Callable[[str, float], float]) -> Asked:
    """Compare full and LoRA by a made-up loss of method and rate; what was trained, as (kind, rate, seed)."""
    text = COMPARISON.replace("  - {kind: bitfit}\n", "").replace("rates: 0", "rates: 2")
    comparison, spec = load(place, text, monkeypatch)
    asked: Asked = []

    def run(jobs, state, folder):
        found = []
        for _, job in jobs:
            kind, rate = job.method.kind, job.training.learning_rate
            asked.append((kind, rate, job.training.seed))
            given = dict(trained_result(0, 0, [loss(kind, rate)] * 30))
            found.append(Trained(**{name: given[name] for name in Trained.model_fields}))
        return found

    monkeypatch.setattr("flows.comparing.methods.write_comparison", lambda *_: None)
    compare(comparison, spec, place, run)
    return asked


def test_the_search_goes_on_beyond_an_edge_while_that_is_better(place, monkeypatch):
    best = {"full": 1e-2, "lora": 0.9}
    asked = search(place, monkeypatch, lambda kind, rate: 2 + abs(math.log10(rate / best[kind])))
    searched = [(kind, rate) for kind, rate, seed in asked if seed == 0]
    assert searched[:4] == [(kind, rate) for kind in ("full", "lora") for rate in (1e-3, 1e-2)]
    assert searched[4:] == [("full", 0.1), ("lora", 0.1), ("lora", 1.0)], (
        "0.1 is worse for one, better for the other"
    )
    assert {(kind, rate) for kind, rate, seed in asked if seed} == {("full", 1e-2), ("lora", 1.0)}


def test_the_search_goes_on_at_both_edges_where_no_rate_is_better_than_another(place, monkeypatch):
    """As where every rate gave the most frequent label: nothing says on which side the good ones lie."""
    best = {"full": 0.1, "lora": 1e-4}
    asked = search(place, monkeypatch, lambda kind, rate: 1.0 if rate == best[kind] else 2.0)
    searched = [(kind, rate) for kind, rate, seed in asked if seed == 0]
    assert searched[4:8] == [(kind, rate) for kind in ("full", "lora") for rate in (1e-4, 0.1)]
    assert searched[8:] == [("full", 1.0), ("lora", 1e-5)], (
        "further on the side that was better, and only there"
    )
    assert {(kind, rate) for kind, rate, seed in asked if seed} == {("full", 0.1), ("lora", 1e-4)}


def test_every_method_gets_the_same_rates_and_seeds(place, monkeypatch):
    comparison, _ = load(place, COMPARISON + "documents: [5, all]\n", monkeypatch)
    cells = search_cells(comparison)
    assert len(cells) == 3 * 2 * 2
    assert {cell.seed for cell in cells} == {0}
    final = final_cells(comparison, {group_of(cell): 1e-3 for cell in cells})
    assert len(final) == 3 * 2 * 2
    assert {cell.seed for cell in final} == {1, 2}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (("seeds: [1, 2]", "seeds: [0, 1]"), "search_seed: must not be one of seeds"),
        (("kind: bitfit", "kind: bitfitt"), "bitfitt"),
        (("spec: tiny.yaml", "spec: nowhere.yaml"), "nowhere.yaml"),
        (("learning_rates: [1.0e-3, 1.0e-2]", "learning_rates: []"), "learning_rates"),
        (("name: small", "name: small\nseedz: [1]"), "seedz"),
    ],
)
def test_mistakes_are_told_before_anything_is_trained(place, monkeypatch, change, what):
    with pytest.raises(UserError) as error:
        load(place, COMPARISON.replace(*change), monkeypatch)
    assert what in str(error.value)


def test_keys_of_the_comparison_can_be_replaced(place, monkeypatch):
    monkeypatch.chdir(place)
    sets = ["seeds=[7]", "methods.1.r=8", "name=other"]
    comparison, _ = load_comparison(place / "small.yaml", sets)
    assert (comparison.seeds, comparison.methods[1].r, comparison.name) == ((7,), 8, "other")


REPLACED = {
    "no value": ("seeds", "an override needs the form key.path=value", "write for example --set seeds=[1,2]"),
    "unknown": ("seedz=[1]", "seedz is not a key of the comparison", "did you mean seeds? known: bases, "),
    "no folder": ("bases=[nowhere/at/all]", "bases.0: there is no folder nowhere/at/all", "name a folder that holds"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", REPLACED)
def test_a_mistake_in_a_replaced_key_is_placed_on_the_command_line(place, monkeypatch, mistake):
    text, what, fix = REPLACED[mistake]
    monkeypatch.chdir(place)
    with pytest.raises(UserErrors) as error:
        load_comparison(place / "small.yaml", [text])
    [one] = error.value.errors
    assert (one.what, one.where) == (what, f"--set {text}")
    assert one.fix.startswith(fix)


def test_a_mistake_under_overrides_is_placed_in_the_comparison(place, monkeypatch):
    text = COMPARISON + "overrides:\n  - training.steps=7\n  - training.stepz=7\n"
    with pytest.raises(UserErrors) as error:
        load(place, text, monkeypatch)
    assert [(e.what, e.where) for e in error.value.errors] == [
        ("training.stepz is not a key of training", f"{place / 'other.yaml'}:{text.count(chr(10))}")
    ]


@pytest.mark.parametrize(
    ("candidate", "line"),
    [("set: [promotion.min_gainz=0]", 7), ("vary: {key: promotion.min_gainz, values: [1, 2]}", 7)],
)
def test_a_mistake_of_a_candidate_is_placed_in_the_comparison(place, monkeypatch, candidate, line):
    monkeypatch.chdir(place)
    text = (
        f"name: r\nspec: tiny.yaml\ncandidates:\n  - {{name: none}}\n  -\n    name: some\n    {candidate}\n"
    )
    (place / "remedies.yaml").write_text(text)
    with pytest.raises(UserErrors) as error:
        load_remedy_comparison(place / "remedies.yaml")
    [one] = error.value.errors
    assert (one.what, one.where) == (
        "promotion.min_gainz is not a key of promotion",
        f"{place / 'remedies.yaml'}:{line}",
    )


GIVEN = {
    "training.learning_rate=0.1": "training.learning_rate is given by learning_rates",
    "training={steps: 4, seed: 3}": "training.seed is given by seeds",
    "method.r=4": "method is given by methods",
    "training.steps=8": "training.steps is set twice, by --set training.steps=7 and by --set training.steps=8",
}


@pytest.mark.parametrize("text", GIVEN)
def test_an_override_that_a_comparison_would_lose_is_refused(place, monkeypatch, text):
    with pytest.raises(UserErrors) as error:
        load(place, f"{COMPARISON}overrides:\n  - training.steps=7\n  - '{text}'\n", monkeypatch)
    assert error.value.what.startswith(GIVEN[text])
    assert error.value.where.endswith(f"other.yaml:{COMPARISON.count(chr(10)) + 3}")


@pytest.mark.parametrize(
    ("candidate", "what"),
    [
        ("set: [name=x]", "name is given by name"),
        ("set: [mixture.replay_ratio=0], vary: {key: mixture.replay_ratio, values: [0.1]}", "mixture.replay_ratio is given by vary"),
        ("vary: {key: training.seed, values: [1]}", "training.seed is given by seeds"),
        ("set: ['training={learning_rate: 0.1, steps: 3}']", "training.learning_rate is set twice"),
    ],
)  # fmt: skip
def test_a_setting_of_a_candidate_that_would_be_lost_is_refused(place, monkeypatch, candidate, what):
    monkeypatch.chdir(place)
    (place / "remedies.yaml").write_text(
        "name: r\nspec: tiny.yaml\noverrides: [training.learning_rate=0.01]\n"
        f"candidates: [{{name: none}}, {{name: gentle, set: [training.learning_rate=0.001]}}, {{name: some, {candidate}}}]\n"
    )
    with pytest.raises(UserErrors, match=what):
        load_remedy_comparison(place / "remedies.yaml")


@pytest.mark.slow
def test_a_comparison_ranks_what_it_trained_and_again_trains_nothing(place):
    (place / "small.yaml").write_text(
        COMPARISON.replace("[1.0e-3, 1.0e-2]", "[1.0e-3]")
    )  # one rate to search
    done = rootstock("compare", "small.yaml", cwd=place)
    assert done.code == 0, done.err
    assert "bitfit" in done.out
    assert "biases" in done.out, "the refusal is told"
    folder = place / ".rootstock" / "compare" / "small"
    results = [
        Trained.model_validate_json(file.read_bytes()) for file in sorted((folder / "cells").glob("*.json"))
    ]
    trained = [result for result in results if result.scores is not None]
    assert len(trained) == 2 + 2 * 2
    held_out: dict[tuple[str, ...], set[int]] = {}  # the split, and so the items, tell the seed
    for result in trained:
        items = tuple(item.id for item in result.scores.suites[0].items)
        held_out.setdefault(items, set()).add(result.label_tokens)
    assert [len(tokens) for tokens in held_out.values()] == [1, 1, 1], "one budget per seed"
    rows = json.loads((folder / "comparison.json").read_bytes())["rows"]
    assert [row["refused"] is None for row in rows] == [True, True, False]
    assert rows[0]["gain"]["estimate"] > 0
    assert "<svg" in (folder / "index.html").read_text()
    before = {file: file.stat().st_mtime_ns for file in (folder / "cells").glob("*.json")}
    again = rootstock("compare", "small.yaml", cwd=place)
    assert again.code == 0, again.err
    assert {file: file.stat().st_mtime_ns for file in (folder / "cells").glob("*.json")} == before
    assert again.out == done.out
