"""What training less would have forgotten at the same gain: a line from the base over weaker trainings to the strongest."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from schemas.results.scores import Scores, SuiteScores, Who

Losses = list[npt.NDArray[np.float64]]
"""Of each suite, the documents' losses in nats: (documents,)."""


def at_the_same_gain(line: Sequence[Scores], own: Scores) -> Scores:
    """Scores whose candidate is the point of the line that gains as much on the domain as `own`'s, document by document.

    The points are the base (gain 0) and the candidates of `line`. Between two neighbours in gain losses are averaged so
    that the gain is `own`'s; above the largest gain the point is that one, below 0 it is the base. Forgetting usually grows
    faster than gain: a training in between would rather forget less than the straight line says.

    Raises:
        ValueError: a suite is not measured in nats per token, or the models were scored on different documents.
    """
    points = [(0.0, _losses(own, own, "base"))]
    points += [(_gain(scores), _losses(scores, own, "candidate")) for scores in line]
    points.sort(key=lambda point: point[0])
    gains = np.array([gain for gain, _ in points])
    wanted = float(np.clip(_gain(own), gains[0], gains[-1]))
    above = max(1, int(np.searchsorted(gains, wanted)))
    (low, before), (high, after) = points[above - 1], points[above]
    share = (wanted - low) / (high - low) if high > low else 1.0
    return _with_candidate(own, [(1 - share) * b + share * a for b, a in zip(before, after, strict=True)])


def _gain(scores: Scores) -> float:
    domain = _as_losses(scores)[0]
    return domain.nats_per_token("base") - domain.nats_per_token("candidate")


def _as_losses(scores: Scores) -> list[SuiteScores]:
    suites = [suite for suite in scores.suites if isinstance(suite, SuiteScores)]
    if len(suites) < len(scores.suites):
        raise ValueError("only losses can be averaged document by document")
    return suites


def _losses(scores: Scores, like: Scores, who: Who) -> Losses:
    suites = _as_losses(scores)
    for suite, other in zip(suites, like.suites, strict=True):
        if [item.id for item in suite.items] != [item.id for item in other.items]:
            raise ValueError(f"suite '{suite.name}': the two models were scored on different items")
    return [np.array([item.nats[who] for item in suite.items]) for suite in suites]


def _with_candidate(scores: Scores, losses: Losses) -> Scores:
    suites = [
        suite.model_copy(
            update={
                "items": tuple(
                    item.model_copy(update={"nats": {**item.nats, "candidate": nats}})
                    for item, nats in zip(suite.items, values.tolist(), strict=True)
                )
            }
        )
        for suite, values in zip(_as_losses(scores), losses, strict=True)
    ]
    return scores.model_copy(update={"suites": tuple(suites)})
