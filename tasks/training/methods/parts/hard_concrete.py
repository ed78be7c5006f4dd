"""The gates of diff pruning: hard concrete distributions (Louizos et al., 2018, https://arxiv.org/abs/1712.01312) on a delta's entries."""

import math
from typing import Any

import numpy as np
import torch

from schemas.spec.methods.subset import DiffPruning
from tasks.training.methods.parts.deltas import Delta, DeltaTuned, count_of, largest

LEFT, RIGHT = -1.5, 1.5
"""The hard concrete distribution is stretched to this interval and cut to [0, 1] (the paper's l and r)."""


class GatedDelta(Delta):
    """delta = z w, elementwise: w starts at zero; z is drawn from a hard concrete distribution with log-odds alpha."""

    mask: torch.Tensor

    def __init__(self, weight: torch.Tensor, alpha: float):
        super().__init__()
        self.w = torch.nn.Parameter(torch.zeros_like(weight, dtype=torch.float32))
        self.alpha = torch.nn.Parameter(torch.full_like(weight, alpha, dtype=torch.float32))
        self.register_buffer(
            "mask", torch.ones_like(weight, dtype=torch.bool)
        )  # the chosen entries, once they are
        self.chosen = False
        self.noise: torch.Tensor | None = None

    def draw(self, generator: torch.Generator) -> None:
        """Draw the noise of the gates for one optimizer step."""
        u = torch.rand(self.alpha.shape, generator=generator, device=self.alpha.device).clamp(1e-6, 1 - 1e-6)
        self.noise = torch.log(u) - torch.log1p(-u)

    def gates(self, noise: torch.Tensor | None = None) -> torch.Tensor:
        """z, of the tensor's shape."""
        logits = self.alpha if noise is None else self.alpha + noise
        return (torch.sigmoid(logits) * (RIGHT - LEFT) + LEFT).clamp(0, 1)

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        if not self.enabled:
            return weight
        return weight + self.w * self.factor()

    def factor(self) -> torch.Tensor:
        """What w is multiplied by: z as drawn while training, at noise zero otherwise; the mask once it is chosen."""
        if self.chosen:
            return self.mask
        return self.gates(self.noise if self.training else None)

    def expected_entries(self) -> torch.Tensor:
        """Expected number of open gates: sum of sigmoid(alpha - log(-l / r))."""
        return torch.sigmoid(self.alpha - math.log(-LEFT / RIGHT)).sum()

    def magnitude(self) -> torch.Tensor:
        """|z w|, at noise zero."""
        return (self.gates() * self.w).detach().abs()

    def choose(self, indices: torch.Tensor) -> None:
        """Keep these flat indices, at the values they have with their gates; the others are the base's for good."""
        with torch.no_grad():
            self.mask.zero_().view(-1)[indices.to(self.mask.device)] = True
            self.w.mul_(self.gates() * self.mask)
        self.chosen, self.noise = True, None

    def entries(self) -> tuple[torch.Tensor, torch.Tensor]:
        indices = self.mask.flatten().nonzero().flatten()
        return indices, self.w.detach().flatten()[indices]


class DiffPruningTuned(DeltaTuned):
    """Gated deltas, cut to the wanted share at `choosing_step`."""

    def __init__(self, tuned: DeltaTuned, settings: DiffPruning, choosing_step: int, seed: int):
        super().__init__(tuned.model, tuned.originals, tuned.deltas, tuned.places)
        self.settings, self.choosing_step, self.seed = settings, choosing_step, seed
        self.gated: dict[str, GatedDelta] = {
            name: delta for name, delta in tuned.deltas.items() if isinstance(delta, GatedDelta)
        }

    @property
    def chosen(self) -> bool:
        """Whether the entries have been chosen."""
        return all(delta.chosen for delta in self.gated.values())

    def choose(self) -> None:
        """Keep the entries with the largest |z w| over all tensors."""
        scores = {name: delta.magnitude() for name, delta in self.gated.items()}
        k = count_of(self.settings.target_ratio, sum(score.numel() for score in scores.values()))
        for name, indices in largest(scores, k).items():
            self.gated[name].choose(indices)

    def begin(self, step: int) -> None:
        """Before the optimizer step after `step` others: choose, or draw gates, as a pure function of (seed, step)."""
        if step >= self.choosing_step and not self.chosen:
            self.choose()
        if self.chosen:
            return
        device = next(iter(self.gated.values())).alpha.device
        seed = np.random.SeedSequence([self.seed, step]).generate_state(1, np.uint64)
        generator = torch.Generator(device).manual_seed(int(seed[0]))
        for delta in self.gated.values():
            delta.draw(generator)

    def callbacks(self) -> list[Any]:
        """Draw or choose before each optimizer step."""
        from transformers import TrainerCallback

        tuned = self

        class Begin(TrainerCallback):
            def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                tuned.begin(state.global_step)

        return [Begin()]

    def penalty(self) -> torch.Tensor | None:
        """lambda times the expected number of differing entries, until they are chosen."""
        if self.chosen or self.settings.sparsity_penalty == 0:
            return None
        expected = torch.stack([delta.expected_entries() for delta in self.gated.values()]).sum()
        return self.settings.sparsity_penalty * expected

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """Gates do not decay: their zero is a gate half open."""
        gates = {id(delta.alpha) for delta in self.gated.values()}
        training = [p for p in self.model.parameters() if p.requires_grad]
        return [
            {"params": [p for p in training if id(p) not in gates], "lr": learning_rate},
            {"params": [p for p in training if id(p) in gates], "lr": learning_rate, "weight_decay": 0.0},
        ]

    def finish(self) -> None:
        """Cut the difference to the wanted share, if that has not been done."""
        if not self.chosen:
            self.choose()

    def state(self) -> dict[str, torch.Tensor]:
        """Differences, gates, and the choice once it is made."""
        masks = {f"mask:{name}": delta.mask for name, delta in self.gated.items() if delta.chosen}
        return {**super().state(), **masks}

    def load_state(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take up the choice too."""
        for name, delta in self.gated.items():
            if (mask := tensors.get(f"mask:{name}")) is not None:
                delta.mask.copy_(mask)
                delta.chosen = True
        super().load_state(tensors)
