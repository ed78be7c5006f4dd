"""Remedies are held against their control seed by seed and document by document."""

import numpy as np
import pytest

from flows.comparing.remedies import overrides_of, remedy_cells
from schemas.results.comparison import Trained
from schemas.results.remedy_comparison import RemedyComparison, RemedyRow
from schemas.results.scores import ItemScore, Scores, SuiteScores
from tasks.evaluation.comparison.remedy_ranking import rank_remedies
from tasks.release.pages.remedy_page import markdown, outcome, write_remedies

COMPARISON = RemedyComparison.model_validate(
    {
        "name": "x", "spec": "s.yaml", "overrides": ["a=1"],
        "candidates": [
            {"name": "none"},
            {"name": "replay", "vary": {"key": "mixture.replay_ratio", "values": [0.1, 0.5]}},
            {"name": "ewc", "set": ["remedies=[{kind: ewc}]"], "against": "placebo"},
            {"name": "placebo", "control": True},
        ],
    }
)  # fmt: skip
FORGETS = {(0, None): 1.0, (1, 0.1): 0.6, (1, 0.5): 0.2, (2, None): 0.5, (3, None): 1.0}
COSTS = {(0, None): 0.0, (1, 0.1): 0.02, (1, 0.5): 0.2, (2, None): 0.1, (3, None): 0.0}


def suite(name: str, kind: str, before: np.ndarray, rise: np.ndarray) -> SuiteScores:
    items = tuple(
        ItemScore(id=f"f:{n}", group=str(n), tokens=10, bytes=40, nats={"base": 10 * b, "candidate": 10 * (b + r)})
        for n, (b, r) in enumerate(zip(before.tolist(), rise.tolist(), strict=True))
    )  # fmt: skip
    return SuiteScores(name=name, kind=kind, floor=9.0, items=items)


def results(noise: float = 0.01):
    generator, found = np.random.default_rng(3), []
    hard = {seed: (generator.normal(5, 1, 40), generator.normal(0, 0.5, 40)) for seed in COMPARISON.seeds}
    for cell in remedy_cells(COMPARISON):
        key, (before, hardness) = (cell.candidate, cell.strength), hard[cell.seed]
        stories = FORGETS[key] + hardness + generator.normal(0, noise, 40)
        domain = COSTS[key] - 2 + hardness + generator.normal(0, noise, 40)
        scores = Scores(
            suites=(suite("domain", "domain", before, domain), suite("stories", "general", before, stories))
        )
        found.append((cell, Trained(scores=scores, domain_tokens=100, replay_tokens=7)))
    return found


def rows(noise: float = 0.01) -> dict[str, RemedyRow]:
    return {row.label: row for row in rank_remedies(COMPARISON, results(noise))}


def test_a_remedy_is_paired_with_its_control_by_document():
    found = rows()
    half = found["replay (replay_ratio 0.5)"]
    assert half.against == "none"
    assert half.forgetting["stories"].estimate == pytest.approx(0.2, abs=0.2), "documents differ by 0.5"
    assert half.kept["stories"].estimate == pytest.approx(0.8, abs=0.01), "of the same documents"
    assert half.kept["stories"].low > 0.75
    assert half.domain_cost.estimate == pytest.approx(0.2, abs=0.01)
    assert half.helps
    assert outcome(half) == "forgets less"
    assert found["ewc"].against == "placebo"
    assert found["ewc"].kept["stories"].estimate == pytest.approx(0.5, abs=0.01)


def test_what_shows_no_difference_is_called_so():
    found = rows(noise=0.3)
    assert not found["placebo"].helps
    assert outcome(found["placebo"]) == "no difference shown"
    assert found["none"].kept == {}


def test_a_refused_candidate_is_a_row_with_its_reason_and_its_followers_have_no_pair():
    refused = [
        (cell, Trained(refused="no room") if cell.candidate == 3 else trained) for cell, trained in results()
    ]
    found = {row.label: row for row in rank_remedies(COMPARISON, refused)}
    assert found["placebo"].refused == "no room"
    assert found["ewc"].against is None
    assert found["ewc"].gain.estimate == pytest.approx(1.9, abs=0.2)


def test_every_training_of_a_seed_differs_in_its_candidate_alone():
    cells = remedy_cells(COMPARISON)
    assert len(cells) == 5 * 3
    own, below = overrides_of(COMPARISON, cells[3])
    assert own == ["mixture.replay_ratio=0.1", "name=x", "training.seed=1"]
    assert below == [("a=1",), ()]


@pytest.mark.parametrize(
    ("candidates", "what"),
    [
        ([{"name": "a"}, {"name": "a"}], "a name occurs twice"),
        ([{"name": "a"}, {"name": "b", "against": "c"}], "'c' must be the name of another candidate"),
        ([{"name": "a", "vary": {"key": "mixture.replay_ratio", "values": [1]}}, {"name": "b"}], "it has one strength"),
    ],
)  # fmt: skip
def test_mistakes_in_a_comparison_are_told(candidates, what):
    with pytest.raises(ValueError, match=what):
        RemedyComparison.model_validate({"name": "x", "spec": "s", "candidates": candidates})


def test_a_line_must_be_a_control():
    candidates = [{"name": "a"}, {"name": "b"}]
    with pytest.raises(ValueError, match="line: 'b' must be the name of a candidate with control"):
        RemedyComparison.model_validate({"name": "x", "spec": "s", "candidates": candidates, "line": "b"})


def test_table_and_page_have_every_row(tmp_path):
    found = list(rows().values())
    write_remedies(tmp_path, COMPARISON, found)
    page = (tmp_path / "index.html").read_text()
    for row in found:
        assert row.label in page
        assert any(row.label in line and outcome(row) in line for line in markdown(COMPARISON, found))
    assert page.count('class="dot control"') == 1
    assert "*placebo*" in (tmp_path / "table.md").read_text()


def test_what_only_trains_less_is_told_from_what_keeps_more(tmp_path):
    """The weaker control loses half the gain and half the forgetting; `lazy` lies on that line, `good` beside it."""
    candidates = [{"name": "none"}, {"name": "weaker", "control": True}, {"name": "lazy"}, {"name": "good"}]
    comparison = RemedyComparison.model_validate(
        {"name": "x", "spec": "s.yaml", "candidates": candidates, "line": "weaker"}
    )
    places = [(2.0, 1.0), (1.0, 0.5), (1.5, 0.75), (1.5, 0.4)]
    generator, found = np.random.default_rng(4), []
    hard = {seed: generator.normal(5, 1, 40) for seed in comparison.seeds}
    for cell in remedy_cells(comparison):
        gain, forgetting = places[cell.candidate]
        noise = generator.normal(0, 0.02, (2, 40))
        suites = (
            suite("domain", "domain", hard[cell.seed], noise[0] - gain),
            suite("stories", "general", hard[cell.seed], noise[1] + forgetting),
        )
        found.append((cell, Trained(scores=Scores(suites=suites), domain_tokens=100)))
    by_name = {row.label: row for row in rank_remedies(comparison, found)}
    assert by_name["none"].kept_at_gain == by_name["weaker"].kept_at_gain == {}
    lazy, good = by_name["lazy"], by_name["good"]
    assert lazy.kept["stories"].low > 0.2
    assert lazy.kept_at_gain["stories"].estimate == pytest.approx(0, abs=0.02)
    assert lazy.only_trains_less
    assert outcome(lazy) == "forgets less, as training less does"
    assert good.kept_at_gain["stories"].estimate == pytest.approx(0.35, abs=0.02)
    assert not good.only_trains_less
    assert outcome(good) == "forgets less"
    write_remedies(tmp_path, comparison, list(by_name.values()))
    page = (tmp_path / "index.html").read_text()
    assert page.count('class="less"') == 2, "from the base over the weaker control to the first candidate"
    assert "Kept at the same gain</th>" in page
