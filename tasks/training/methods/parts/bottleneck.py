"""The bottleneck of every adapter: W_up f(W_down x)."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from schemas.spec.methods.adapters import Bottleneck as Settings

DEFAULT_REDUCTION = {"adapter_parallel": 2.0, "mam": 2.0}
ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {"relu": nn.functional.relu, "gelu": nn.functional.gelu, "silu": nn.functional.silu, "tanh": torch.tanh}  # fmt: skip


class Bottleneck(nn.Module):
    """(…, d) -> (…, d) through m units, with biases: 2 m d + d + m parameters (Houlsby et al., section 2.1).

    W_up and its bias start at zero, so what is added starts at exactly nothing (the papers: at almost nothing);
    W_down starts as torch's linear layers do. Computes in its own dtype, whatever the base's.
    """

    def __init__(self, width: int, size: int, activation: str, dropout: float):
        super().__init__()
        self.down = nn.Linear(width, size)
        self.up = nn.Linear(size, width)
        self.activation = ACTIVATIONS[activation]
        self.dropout = nn.Dropout(dropout)
        nn.init.zeros_(self.down.bias)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def update(self, hidden: torch.Tensor) -> torch.Tensor:
        """What the bottleneck makes of the hidden states, to be added to them."""
        inner = self.activation(self.down(hidden.to(self.down.weight.dtype)))
        raised: torch.Tensor = self.up(self.dropout(inner))
        return raised.to(hidden.dtype)

    def forward(self, output: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """h + adapter(h): behind the sublayer (Houlsby et al., 2019)."""
        return output + self.update(output)


class Parallel(Bottleneck):
    """h + s adapter(x): beside the sublayer, from its own input x (He et al., 2022, table 1)."""

    def __init__(self, width: int, size: int, activation: str, dropout: float, scale: float):
        super().__init__(width, size, activation, dropout)
        self.scale = scale

    def forward(self, output: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        return output + self.scale * self.update(hidden).view_as(output)


class OwnNorm(nn.Module):
    """A copy of a normalisation layer that trains in place of the base's: the same output at the start."""

    def __init__(self, norm: Any):
        super().__init__()
        self.norm = copy.deepcopy(norm).float()

    def forward(self, output: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        normed: torch.Tensor = self.norm(hidden.float())
        return normed.to(output.dtype)


def size_of(settings: Settings, width: int) -> int:
    """Units of the bottleneck in a model of this width."""
    if settings.size is not None:
        return settings.size
    factor = settings.reduction_factor or DEFAULT_REDUCTION.get(settings.kind, 16.0)
    return max(1, int(width / factor))
