"""What was probably meant by a name that is not known."""

import difflib
from collections.abc import Sequence

SYNONYMS = {
    "rank": "r",
    "lora_r": "r",
    "lora_alpha": "alpha",
    "lora_dropout": "dropout",
    "lr": "learning_rate",
    "max_steps": "steps",
    "num_train_epochs": "epochs",
    "num_epochs": "epochs",
    "max_length": "sequence_length",
    "max_seq_length": "sequence_length",
    "cutoff_len": "sequence_length",
    "batchsize": "batch_tokens",
    "batch_size": "batch_tokens",
    "model": "base",
    "base_model": "base",
    "model_name_or_path": "base",
    "dataset": "domain",
    "datasets": "domain",
    "data": "domain",
    "file": "path",
    "files": "path",
    "warmup": "warmup_ratio",
    "lr_scheduler_type": "schedule",
}
"""What the neighbours call our keys."""


def synonym(key: str) -> str | None:
    """Our key for a neighbour's."""
    return SYNONYMS.get(key.lower().replace("-", "_"))


def nearest(given: str, known: Sequence[str]) -> str:
    """`did you mean X? ` if one of the known names is close, else nothing."""
    near = difflib.get_close_matches(given, known, 1) or [name for name in known if given in name.split("_")]
    return f"did you mean {near[0]}? " if near else ""
