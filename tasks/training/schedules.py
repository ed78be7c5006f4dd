"""Learning-rate schedules for continual training that transformers does not have, as factors of the peak rate.

wsd: warm-up, stable, decay (Hu et al., 2024, https://arxiv.org/abs/2404.06395), with the square-root decay of
Hägele et al. (2024, https://arxiv.org/abs/2405.18392). infinite: Ibrahim et al., 2024, https://arxiv.org/abs/2403.08763.
"""

import functools
import math
from collections.abc import Callable

from schemas.spec.training import Training

NAMES = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine"}
"""Schedules that are transformers' own -> its name for them."""


def own_schedule(training: Training, steps: int) -> Callable[[int], float] | None:
    """Step -> factor of the peak rate; None if the schedule is transformers' own."""
    if training.schedule in NAMES:
        return None
    factor = wsd if training.schedule == "wsd" else infinite
    return functools.partial(factor, training, steps)


def wsd(training: Training, steps: int, step: int) -> float:
    """Rise to 1, stay, then 1 - sqrt(share of the decay that is over). At least the last step decays."""
    warm, last = warmup_steps(training, steps), steps - max(1, round(training.decays * steps))
    if step < warm:
        return step / warm
    return 1.0 if step < last else 1 - math.sqrt((step - last) / (steps - last))


def infinite(training: Training, steps: int, step: int) -> float:
    """Rise to 1, cool down to the constant rate along a cosine, stay, then anneal exponentially to the least rate.

    From a checkpoint of the constant part another increment goes on without warming up again.
    """
    constant, least = training.constant, training.least
    warm, last = warmup_steps(training, steps), steps - max(1, round(training.decays * steps))
    cool = warm + round(training.cools * steps)
    if step < warm:
        return step / warm
    if step < cool:
        return constant + (1 - constant) / 2 * (1 + math.cos(math.pi * (step - warm) / (cool - warm)))
    if step < last:
        return constant
    annealed: float = constant * (least / constant) ** ((step - last) / (steps - last))
    return annealed


def warmup_steps(training: Training, steps: int) -> int:
    """Steps that warm up."""
    return math.ceil(training.warmup_ratio * steps)
