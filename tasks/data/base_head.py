"""What a model folder says of its head: which objective it serves, and the names of its outputs."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from schemas.objectives import ObjectiveKind

_ARCHITECTURES: dict[str, ObjectiveKind] = {
    "ForSequenceClassification": "text_classification",
    "ForTokenClassification": "token_classification",
}


def read_head(folder: Path) -> tuple[ObjectiveKind, tuple[str, ...]] | None:
    """Objective and output names of a model folder with a head, None for any other."""
    file = folder / "config.json"
    config: dict[str, Any] = json.loads(file.read_bytes()) if file.is_file() else {}
    for architecture in config.get("architectures") or ():
        for suffix, kind in _ARCHITECTURES.items():
            if architecture.endswith(suffix):
                names = config.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}
                return kind, tuple(names[number] for number in sorted(names, key=int))
    return None


def head_labels(folder: Path, kind: ObjectiveKind) -> tuple[str, ...]:
    """Output names of a model that has a head for this objective; none for any other."""
    head = read_head(folder)
    return head[1] if head is not None and head[0] == kind else ()


def knows_labels(folder: Path, kind: ObjectiveKind, names: Sequence[str]) -> bool:
    """Whether a model has a head for this objective that can give at least one of these labels (O aside)."""
    return bool(set(head_labels(folder, kind)) & set(names) - {"O"})
