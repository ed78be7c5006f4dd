"""How domain and general text are mixed: by a ratio, or by how much may be forgotten."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from schemas.base import Schema
from schemas.spec.objectives import ObjectiveSettings

DEFAULT_RATIO = 0.25
INCREMENTS_RATIO = 0.5
"""With increments: their replay holds general text and all that was learned before."""
Ratio = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]


class Proxies(Schema):
    """The short trainings from which a replay ratio is chosen: every ratio at every length."""

    ratios: tuple[Ratio, ...] = Field(default=(0, 0.01, 0.05, 0.1, 0.25), min_length=4)
    """Replay ratios that are always tried, rising."""
    further_ratios: tuple[Ratio, ...] = (0.5, 0.75)
    """Tried one after another, only while no ratio up to the last one tried meets the budget."""
    lengths: tuple[Share, ...] = Field(default=(0.125, 0.25), min_length=2)
    """Lengths of the proxies, rising, as shares of the domain tokens that the whole run would train without replay."""

    @model_validator(mode="after")
    def _rising(self) -> Self:
        for name in ("ratios", "further_ratios", "lengths"):
            values = getattr(self, name)
            if list(values) != sorted(set(values)):
                raise ValueError(f"{name} must rise, each value once; sort them")
        if self.further_ratios and self.further_ratios[0] <= self.ratios[-1]:
            raise ValueError("further_ratios must lie above the last of ratios; remove the lower ones")
        return self


def _default_ratio(given: dict[str, Any]) -> float | None:
    return DEFAULT_RATIO if given.get("forgetting_budget") is None else None


class Mixture(Schema):
    """The share of general text in training: given as `replay_ratio`, or chosen to keep `forgetting_budget`."""

    forgetting_budget: float | None = Field(default=None, gt=0, le=1000, allow_inf_nan=False)
    """Nats per token that the general suites may lose: short proxy trainings choose the smallest ratio that keeps it."""
    replay_ratio: Ratio | None = Field(default_factory=_default_ratio)
    """Share of training TOKENS drawn from `replay`; reported as requested and as achieved. By default
    0.25, with increments 0.5, with a budget what keeps it."""
    proxies: Proxies | None = None
    """Which proxy trainings choose the ratio; belongs to `forgetting_budget`."""
    temperature: float | None = Field(default=None, gt=0, le=10**6, allow_inf_nan=False)
    """Replay sources by their size: each source's weight is multiplied by its label tokens to the power 1 / temperature.
    1 draws all documents alike, large temperatures all sources alike. By default sizes do not count."""
    importance: Literal["towards_domain", "away_from_domain"] | None = None
    """Which replay documents are drawn first: those like the domain, or those unlike it, by hashed n-grams (DSIR; Xie et
    al., 2023). By default all alike."""

    class_temperature: float | None = Field(default=None, gt=1, le=10**6, allow_inf_nan=False)
    """Domain documents by how rare their label is (text_classification): a label of n documents is drawn in proportion to
    n to the power 1 / class_temperature, by repeating the documents of rarer ones; none is left out. 1 would be as they are,
    large temperatures draw all labels alike. By default as they are."""

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.replay_ratio is None) == (self.forgetting_budget is None):
            raise ValueError(
                "give exactly one of replay_ratio and forgetting_budget;"
                " remove the other (on the command line: --set mixture.replay_ratio=null removes one)"
            )
        if self.proxies is not None and self.forgetting_budget is None:
            raise ValueError("proxies choose a ratio for forgetting_budget; without a budget remove them")
        return self

    @property
    def ratio(self) -> float:
        """The ratio to lay out; a budget must have been turned into one before."""
        assert self.replay_ratio is not None, "no replay ratio has been chosen for the budget yet"
        return self.replay_ratio


def class_problems(mixture: Mixture, objective: ObjectiveSettings) -> list[str]:
    """Where documents cannot be drawn by their label, one `key: what; fix`."""
    if mixture.class_temperature is None or objective.one_label:
        return []
    why = objective.undrawn or f"objective {objective.kind} has no labels to draw documents by; remove it"
    return [f"mixture.class_temperature: {why}"]


def budget_problems(
    budget: float | None, replay: bool, scratch: bool, head: bool, allowed: float
) -> list[str]:
    """What keeps a forgetting budget from being turned into a ratio, one `key: what; fix` each; none without a budget."""
    key = "mixture.forgetting_budget"
    if budget is None:
        return []
    problems = []
    if scratch:
        problems.append(f"{key}: a model from scratch has nothing to forget; give replay_ratio")
    elif head:
        problems.append(f"{key}: is in nats per token, and a head has none; give replay_ratio")
    elif not replay:
        problems.append(
            f"{key}: there are no replay sources to choose a share of; add replay, or remedy self_replay"
        )
    if budget > allowed:
        problems.append(
            f"{key}: {budget:g} is above promotion.max_forgetting ({allowed:g}), so that keeping it would be rejected;"
            " lower the budget or raise promotion.max_forgetting"
        )
    return problems
