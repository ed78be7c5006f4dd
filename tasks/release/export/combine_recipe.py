"""How several differences to one base become one: settings of `rootstock combine`, checked before anything is loaded."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from schemas.errors import UserError

How = Literal["linear", "ties", "dare_linear", "dare_ties"]


@dataclass(frozen=True)
class Recipe:
    """How differences become one."""

    how: How
    weights: tuple[float, ...]
    """One factor for each model's difference, in the order of the models."""
    density: float | None
    """Share of each difference that is kept, in (0, 1]; None for linear, which keeps all."""
    seed: int | None
    """Of DARE's draw; None where nothing is drawn."""


def make_recipe(
    how: str, count: int, weights: Sequence[float] | None, density: float | None, seed: int | None
) -> Recipe:
    """Check the settings for `count` models and fill in what is not given.

    Weights: linear and dare_linear add, so by default they are 1 / count; ties and dare_ties average already, so there
    they are 1. Density: 0.2 for ties (the paper's), else 0.5. Seed: 17.

    Raises:
        UserError: a value is out of range, or has no effect with this `how`.
    """
    known = ", ".join(get_args(How))
    if how not in get_args(How):
        raise UserError(f"'{how}' is no way to combine", "--how", f"known: {known}")
    if weights is not None and len(weights) != count:
        what = f"there are {len(weights)} weights for {count} models"
        raise UserError(what, "--weights", f"give {count} numbers, separated by commas")
    if weights is not None and not all(math.isfinite(weight) and abs(weight) <= 1e6 for weight in weights):
        what = "a weight is not a finite number, or is beyond a million"
        raise UserError(what, "--weights", "give numbers such as 0.5,0.5")
    if density is not None and how == "linear":
        fix = "leave it out, or choose ties, dare_linear or dare_ties"
        raise UserError("linear keeps the whole difference: a density has no effect", "--density", fix)
    if density is not None and not 0 < density <= 1:
        fix = "give a share above 0 and at most 1"
        raise UserError(f"a density of {density:g} keeps nothing, or more than all", "--density", fix)
    if seed is not None and not how.startswith("dare"):
        fix = "leave it out, or choose dare_linear or dare_ties"
        raise UserError(f"{how} draws nothing: a seed has no effect", "--seed", fix)
    if weights is None:
        weights = [1.0 if how.endswith("ties") else 1 / count] * count
    if how != "linear" and density is None:
        density = 0.2 if how == "ties" else 0.5
    if how.startswith("dare") and seed is None:
        seed = 17
    return Recipe(how, tuple(weights), density, seed)  # type: ignore[arg-type]  # checked above


def parse_weights(text: str | None) -> list[float] | None:
    """Read numbers separated by commas.

    Raises:
        UserError: one is not a number.
    """
    try:
        return None if text is None else [float(part) for part in text.split(",")]
    except ValueError:
        what = f"'{text}' is not a list of numbers"
        raise UserError(what, "--weights", "separate numbers by commas: 0.5,0.5") from None
