"""A PI controller of the replay ratio: what `benchmarks.controller` holds against fixed ratios.

    error = (forgetting of the probe - setpoint) / budget
    ratio = clip(start + proportional x error + integral of (integral x error), least, most), moved by at most `rate` a probe

Anti-windup by conditional integration (Åström and Hägglund, PID Controllers, 1995, section 3.5): while bounds or rate limit
hold the ratio back, what would push it further is not added up. Where the ratio has been at its upper bound for `patience`
probes and the budget is still exceeded, the learning rate is cut; after the last cut, training stops.
"""

from dataclasses import dataclass, field


@dataclass
class RatioController:
    """Replay ratio, learning rate and end of one training, told from probes."""

    budget: float
    """Nats per label token that may be forgotten."""
    start: float = 0.25
    least: float = 0.02
    most: float = 0.75
    setpoint: float = 0.8
    """Share of the budget that is aimed at."""
    proportional: float = 0.15
    integral: float = 0.05
    rate: float = 0.1
    """Most that the ratio moves from probe to probe."""
    patience: int = 3
    cut: float = 0.5
    """Factor of the learning rate at each cut."""
    cuts: int = 3

    ratio: float = field(init=False)
    summed: float = field(default=0.0, init=False)
    """The integral part of the ratio."""
    factor: float = field(default=1.0, init=False)
    """Of the learning rate."""
    stopped: bool = field(default=False, init=False)
    beyond: int = field(default=0, init=False)
    """Probes in turn that the budget was exceeded at the upper bound."""

    def __post_init__(self) -> None:
        self.ratio = min(max(self.start, self.least), self.most)

    def update(self, forgetting: float) -> None:
        """Take a probe's forgetting in nats per label token, and set ratio, learning rate and end."""
        error = (forgetting - self.setpoint * self.budget) / self.budget
        wanted = self.start + self.proportional * error + self.summed + self.integral * error
        low, high = max(self.least, self.ratio - self.rate), min(self.most, self.ratio + self.rate)
        self.ratio = min(max(wanted, low), high)
        held_back = (wanted > high and error > 0) or (wanted < low and error < 0)
        if not held_back:
            self.summed += self.integral * error
        self._escalate(forgetting)

    def _escalate(self, forgetting: float) -> None:
        self.beyond = self.beyond + 1 if self.ratio == self.most and forgetting > self.budget else 0
        if self.beyond < self.patience:
            return
        self.beyond = 0
        if self.cuts:
            self.cuts, self.factor = self.cuts - 1, self.factor * self.cut
        else:
            self.stopped = True
