"""Attention over adapters (Pfeiffer et al., 2021, section 3.2)."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn

from schemas.spec.methods.adapters import AdapterPfeiffer
from tasks.training.methods.parts.bottleneck import Bottleneck, size_of

STD = 0.02  # of query and key at the start, as BERT's own layers


class Fusion(nn.Module):
    """3 d^2 + 2 d trainable parameters over N frozen adapters."""

    def __init__(self, width: int, parts: Sequence[AdapterPfeiffer]):
        super().__init__()
        self.parts = tuple(parts)
        self.adapters = nn.ModuleList(
            Bottleneck(width, size_of(part, width), part.activation, dropout=0.0) for part in parts
        )
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value = nn.Linear(width, width, bias=False)
        for layer in (self.query, self.key):
            nn.init.normal_(layer.weight, std=STD)
            nn.init.zeros_(layer.bias)
        nn.init.eye_(self.value.weight)

    def weights(self, output: torch.Tensor, updates: torch.Tensor) -> torch.Tensor:
        """How much each adapter counts: (..., d) and (..., N, d) -> (..., N)."""
        scores: torch.Tensor = (self.key(updates) @ self.query(output)[..., None])[..., 0]
        return scores.softmax(dim=-1)

    def forward(self, output: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        own = output.to(self.value.weight.dtype)
        each = [cast(Bottleneck, adapter).update(own) for adapter in self.adapters]
        updates = torch.stack(each, dim=-2)  # (..., N, d)
        fused: torch.Tensor = (self.weights(own, updates)[..., None, :] @ self.value(updates))[..., 0, :]
        return output + fused.to(output.dtype)
