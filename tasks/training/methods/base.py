"""What every tuning method offers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class MethodEntry:
    """A row of the registry: how to apply a method, and what people should know about it."""

    settings: type[Any]
    """Its settings class in schemas/methods.py."""
    apply: Callable[[Any, Any], Any]
    """(model, settings) -> the model to train, in which exactly what the method trains requires a gradient."""
    full_precision_base: bool
    """Whether the base's own weights change, and so must be kept in fp32 while training."""
    paper: str
    trains: str
    stores: str
    refuses: str
