"""The parts of UniPELT, each behind a gate of its own (Mao et al., 2022, section 3)."""

import torch
from torch import nn

from tasks.training.methods.parts.bottleneck import Bottleneck
from tasks.training.methods.parts.prefix_attention import Prefix


class Gate(nn.Module):
    """sigmoid(W x + b) of each token: (B, T, d) -> (B, T, 1), d + 1 parameters; starts at one half."""

    def __init__(self, width: int):
        super().__init__()
        self.linear = nn.Linear(width, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        opened: torch.Tensor = torch.sigmoid(self.linear(hidden.to(self.linear.weight.dtype)))
        return opened


class GatedBottleneck(Bottleneck):
    """h + g(x) adapter(h), x the feed-forward network's input."""

    def __init__(self, width: int, size: int, activation: str, dropout: float):
        super().__init__(width, size, activation, dropout)
        self.gate = Gate(width)

    def forward(self, output: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        update = self.update(output)
        gated: torch.Tensor = self.gate(hidden) * update.view_as(hidden)
        return output + gated.view_as(output).to(output.dtype)


class GatedLora(nn.Module):
    """W x + g(x) (alpha / r) B A x, with a gate that the block's queries and values share."""

    def __init__(self, width: int, out: int, r: int, alpha: float, gate: Gate):
        super().__init__()
        self.a, self.b = nn.Linear(width, r, bias=False), nn.Linear(r, out, bias=False)
        nn.init.zeros_(self.b.weight)
        self.scale = alpha / r
        self.__dict__["gate"] = gate  # stored once, as a module of its own

    def forward(self, output: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        update = self.b(self.a(hidden.to(self.a.weight.dtype)))
        changed: torch.Tensor = output + (self.__dict__["gate"](hidden) * self.scale * update).to(
            output.dtype
        )
        return changed


class GatedPrefix(nn.Module):
    """A prefix whose keys and values each token sees multiplied by its gate."""

    def __init__(self, prefix: Prefix, width: int):
        super().__init__()
        self.prefix, self.gate = prefix, Gate(width)
        self._weight: torch.Tensor | None = None

    def see(self, hidden: torch.Tensor) -> None:
        """Decide the gates of these tokens, (B, T, d)."""
        self._weight = self.gate(hidden)

    def weight(self) -> torch.Tensor | None:
        """(B, T, 1)."""
        return self._weight

    def tensors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values, each (l, heads, size)."""
        return self.prefix.tensors()
