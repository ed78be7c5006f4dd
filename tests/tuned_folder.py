"""Tuned models in no time: a method on a tiny base, what trains moved at random instead of trained."""

import shutil
from pathlib import Path
from typing import Any

import torch

from tasks.data.model.folder import model_sha256
from tasks.training.methods.registry import METHODS
from tasks.training.models.load import load_base
from tasks.training.models.tuned_files import save_tuned
from tests.training.methods.small import SMALL
from tests.training.methods.tiny_models import IDS, context


def make_tuned(
    base: Path,
    folder: Path,
    kind: str,
    seed: int,
    settings: dict[str, Any] | None = None,
    run_seed: int = 17,
) -> Path:
    """Write the folder of a model tuned by `kind`; another `seed` moves it elsewhere from the same start."""
    entry = METHODS[kind]
    chosen = entry.settings(**(settings or SMALL[kind] or {}))
    torch.manual_seed(3)
    model = load_base(base, None, entry.base_settings(chosen) if entry.base_settings else None)
    batches = [{"input_ids": IDS, "labels": IDS, "attention_mask": torch.ones_like(IDS)}]
    tuned = entry.attach(
        model, chosen, context(batches=batches, tokenizer=base, sequence_length=32, seed=run_seed)
    )
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in tuned.model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=draw))
    tuned.finish()
    save_tuned(tuned, folder, chosen, str(base), model_sha256(base))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(base / name, folder / name)
    return folder
