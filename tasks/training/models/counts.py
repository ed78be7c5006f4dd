"""Counts of a tuned model: what trained, what changed, what was added, what is stored, and the rank of the difference.

Definitions are in docs/guides/counts.md. All are measured on the saved model, not told by the method.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from schemas.results.counts import Parameters, Ranks
from tasks.data.model.folder import is_tuned
from tasks.training.models.load import load_base, load_model
from tasks.training.models.tuned_files import read_method

LARGEST_RANKED = 200_000_000
"""Parameters of a model whose differences are decomposed: beyond it the singular values take longer than training."""


def count_parameters(model: Any, base: Path, saved: Path, before: Any = None) -> Parameters:
    """Count the model in memory after training (`model`) and the one on disk (`saved`) against its base.

    `before` is what training started from, where that is more than the base: a base with a new head.
    """
    import torch

    total = sum(numbers(parameter) for parameter in model.parameters())
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    stored = sum(path.stat().st_size for path in saved.glob("*.safetensors"))
    merges = not is_tuned(saved) or read_method(saved).method.merges
    added = 0 if merges else _stored_numbers(saved)
    changed, ranks = 0, []
    rank_all = total <= LARGEST_RANKED
    if merges:
        for old, new in _pairs(before or load_base(base), load_model(saved)):
            differing = int(torch.count_nonzero(new != old))
            changed += differing
            if rank_all and differing and old.dim() == 2:
                ranks.append(numerical_rank(old, new))
    return Parameters(
        total=total,
        trainable=trainable,
        changed=changed,
        added=added,
        stored_bytes=stored,
        ranks=Ranks.of(ranks) if rank_all else None,
    )


def numbers(parameter: Any) -> int:
    """Numbers in a parameter; a 4-bit one holds two in each byte."""
    quantised = getattr(parameter, "quant_state", None)
    return int(quantised.shape.numel() if quantised is not None else parameter.numel())


def numerical_rank(before: Any, after: Any) -> int:
    """Rank of after - before, two float32 matrices (m, n): singular values above what rounding alone would give.

    Adding an update rounds each entry by up to eps / 2 of its size; the largest singular value of such noise is about
    its standard deviation times (sqrt(m) + sqrt(n)) (Vershynin, High-Dimensional Probability, theorem 4.4.5).
    """
    import torch

    rows, columns = before.shape
    rounding = torch.finfo(torch.float32).eps / 2 * float(after.abs().max())
    values = torch.linalg.svdvals((after - before).double())
    return int((values > rounding * (math.sqrt(rows) + math.sqrt(columns))).sum())


def _pairs(base: Any, tuned: Any) -> Iterator[tuple[Any, Any]]:
    """Weights of both models by name, in float32, tied ones once."""
    after = dict(tuned.named_parameters())
    for name, before in base.named_parameters():
        yield before.detach().float(), after[name].detach().float()


def _stored_numbers(folder: Path) -> int:
    from safetensors import safe_open

    numbers = 0
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118
                shape = tensors.get_slice(name).get_shape()
                size = 1
                for length in shape:
                    size *= length
                numbers += size
    return numbers
