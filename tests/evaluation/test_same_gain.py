"""The line of weaker trainings is averaged document by document, to the gain of the one that is held against it."""

import numpy as np
import pytest

from schemas.results.scores import ItemScore, LabelScore, LabelSuite, Scores, SuiteScores
from tasks.evaluation.comparison.same_gain import at_the_same_gain

TOKENS = (10, 30)


def scores(domain: tuple[float, float], stories: tuple[float, float], names: str = "ab") -> Scores:
    """Candidates' losses per token of two documents in each suite; the base's are 5 and 1."""

    def suite(name, kind, base, values):
        items = tuple(
            ItemScore(id=i, group=i, tokens=t, bytes=t, nats={"base": base * t, "candidate": v * t})
            for i, t, v in zip(names, TOKENS, values, strict=True)
        )
        return SuiteScores(name=name, kind=kind, floor=9.0, items=items)

    return Scores(suites=(suite("domain", "domain", 5, domain), suite("stories", "general", 1, stories)))


LINE = [scores((3, 3), (2, 2.4)), scores((4, 4), (1.2, 1.2))]
"""Gains 2 and 1."""


def point(own: Scores) -> tuple[float, list[float]]:
    """Gain of the point, and its losses per token of the stories."""
    found = at_the_same_gain(LINE, own)
    gain = found.suites[0].nats_per_token("base") - found.suites[0].nats_per_token("candidate")
    return gain, [i.nats["candidate"] / i.tokens for i in found.suites[1].items]


@pytest.mark.parametrize(
    ("domain", "gain", "stories"),
    [
        ((3.5, 3.5), 1.5, [1.6, 1.8]),  # half-way between both
        (
            (4.9, 4.7),
            0.25,
            [1.05, 1.05],
        ),  # a quarter of the way from the base to the weaker: (10 x 0.1 + 30 x 0.3) / 40
        ((4, 4), 1, [1.2, 1.2]),
        ((3, 3), 2, [2, 2.4]),
        ((2, 2), 2, [2, 2.4]),  # more than any: no extrapolation
        ((6, 6), 0, [1, 1]),  # a loss: the base
    ],
)
def test_the_point_has_the_gain_and_lies_between_its_neighbours(domain, gain, stories):
    found = point(scores(domain, (0, 0)))
    assert found[0] == pytest.approx(gain)
    np.testing.assert_allclose(found[1], stories)


def test_other_documents_and_other_units_are_refused():
    with pytest.raises(ValueError, match="different items"):
        at_the_same_gain([scores((3, 3), (1, 1), "ac")], scores((3, 3), (1, 1)))
    label = LabelSuite(
        name="domain",
        kind="domain",
        floor=0,
        items=(LabelScore(id="a", group="a", gold="x", predicted={"base": "x", "candidate": "x"}),),
    )
    with pytest.raises(ValueError, match="only losses"):
        at_the_same_gain([], Scores(suites=(label,)))
