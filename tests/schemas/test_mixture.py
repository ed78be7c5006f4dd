"""A mixture is a ratio or a budget, and never both."""

from typing import Any

import pytest
from pydantic import ValidationError

from schemas.spec.mixture import Mixture, Proxies
from schemas.spec.run import RunSpec

SPEC: dict[str, Any] = {
    "name": "test",
    "base": "model",
    "domain": [{"path": "d.txt", "contract": "c"}],
    "replay": [{"path": "r.txt", "contract": "c"}],
    "mixture": {"forgetting_budget": 0.05},
    "training": {"steps": 3},
    "evaluation": {"domain_holdout": 0.1, "general": [{"path": "g.txt", "contract": "c"}]},
}


def problems(**changes: Any) -> str:
    """All that is wrong with the specification after some changes (None removes a key); empty if nothing is."""
    values = {key: value for key, value in {**SPEC, **changes}.items() if value is not None}
    try:
        RunSpec.model_validate(values)
    except ValidationError as error:
        return str(error)
    return ""


def test_a_budget_stands_in_place_of_a_ratio():
    assert problems() == ""
    mixture = RunSpec.model_validate(SPEC).mixture
    assert (mixture.replay_ratio, mixture.forgetting_budget) == (None, 0.05)


def test_without_either_the_ratio_is_a_quarter():
    assert Mixture() == Mixture(replay_ratio=0.25)
    assert Mixture().ratio == 0.25


def test_with_increments_half_of_the_tokens_are_replay_unless_said_otherwise():
    def ratio(**mixture):
        spec = {**SPEC, "increments": {}, "mixture": mixture}
        return RunSpec.model_validate(spec).mixture.replay_ratio

    assert ratio() == ratio(importance="towards_domain") == 0.5
    assert RunSpec.model_validate({**SPEC, "mixture": {}}).mixture.replay_ratio == 0.25
    assert ratio(replay_ratio=0.1) == 0.1
    assert ratio(forgetting_budget=0.05) is None
    whole = RunSpec.model_validate({**SPEC, "increments": {}, "mixture": {}})
    assert RunSpec.model_validate(whole.model_dump(mode="json")) == whole


@pytest.mark.parametrize(
    "both", [{"replay_ratio": 0.1, "forgetting_budget": 0.1}, {"replay_ratio": None}], ids=["both", "neither"]
)
def test_exactly_one_of_the_two_is_given(both):
    assert "give exactly one of replay_ratio and forgetting_budget" in problems(mixture=both)


def test_what_is_written_is_read_back_as_it_was():
    for mixture in (
        Mixture(),
        Mixture(forgetting_budget=0.1),
        Mixture(forgetting_budget=0.1, proxies=Proxies()),
    ):
        assert Mixture.model_validate_json(mixture.model_dump_json()) == mixture


def test_proxies_without_a_budget_would_do_nothing():
    assert "without a budget remove them" in problems(mixture={"replay_ratio": 0.1, "proxies": {}})


@pytest.mark.parametrize(
    ("proxies", "what"),
    [
        ({"ratios": [0, 0.2, 0.1, 0.3]}, "ratios must rise"),
        ({"lengths": [0.2, 0.2]}, "lengths must rise"),
        ({"ratios": [0, 0.1, 0.2, 0.6]}, "further_ratios must lie above"),
        ({"ratios": [0, 0.1, 0.2]}, "at least 4"),
        ({"lengths": [0.2]}, "at least 2"),
        ({"lengths": [0.5, 1.5]}, "less than or equal to 1"),
        ({"ratios": [0, 0.1, 0.2, 1]}, "less than 1"),
    ],
)
def test_proxies_that_make_no_curve_are_refused(proxies, what):
    assert what in problems(mixture={"forgetting_budget": 0.05, "proxies": proxies})


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"replay": None}, "there are no replay sources to choose a share of"),
        ({"mixture": {"forgetting_budget": 0.06}}, "0.06 is above promotion.max_forgetting (0.05)"),
        (
            {"base": {"from_scratch": {}}, "evaluation": {"domain_holdout": 0.1}},
            "a model from scratch has nothing to forget",
        ),
        ({"objective": {"kind": "text_classification"}}, "is in nats per token, and a head has none"),
        ({"mixture": {"forgetting_budget": 0}}, "greater than 0"),
    ],
)
def test_a_budget_that_cannot_be_kept_or_measured_is_refused(changes, what):
    assert what in problems(**changes)


def test_a_ratio_is_asked_for_only_when_there_is_one():
    with pytest.raises(AssertionError):
        _ = Mixture(forgetting_budget=0.1).ratio
