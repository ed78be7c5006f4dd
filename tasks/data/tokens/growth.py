"""How far a tokenizer makes a text grow before it is cut into tokens: a few replacements in a file can ask for any memory."""

import json
from pathlib import Path
from typing import Any

from schemas.errors import UserError

MOST = 1000
"""Times: a blank that becomes `▁` is three bytes for one, and byte fallbacks and NFKD stay below twenty."""


def require_bounded_growth(tokenizer: Any, file: Path) -> None:
    """Refuse a tokenizers.Tokenizer, read from `file`, whose normalizer or pre-tokenizer writes far more than it reads.

    Raises:
        UserError: naming how many times more.
    """
    growth = 1.0
    for part in (
        tokenizer.normalizer,
        tokenizer.pre_tokenizer,
    ):  # as they tell themselves: a file may be 30 MB of words
        growth *= 1.0 if part is None else _growth(json.loads(part.__getstate__()))
    if growth > MOST:
        what = f"the tokenizer makes a text up to {growth:,.0f} times as long before it reads it"
        raise UserError(what, str(file), "use a base whose tokenizer works")


def _growth(part: Any) -> float:
    """Characters that a normalizer or pre-tokenizer can write for one."""
    if not isinstance(part, dict):
        return 1.0
    growth = 1.0
    for inner in [*(part.get("normalizers") or []), *(part.get("pretokenizers") or [])]:
        growth *= _growth(inner)
    if isinstance(content := part.get("content"), str):
        pattern = part.get("pattern")
        found = pattern.get("String") if isinstance(pattern, dict) else None
        growth *= max(1.0, len(content) / max(1, len(found or "")))
    for key in ("prepend", "replacement"):
        if isinstance(written := part.get(key), str):
            growth *= max(1, len(written))
    return growth
