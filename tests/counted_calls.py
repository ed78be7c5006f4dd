"""Stages called as plain functions, and counted."""

from collections import Counter
from typing import Any


class Calls:
    """Runs stages as plain functions and counts them."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()

    def __call__(self, function: Any, *arguments: Any, **settings: Any) -> Any:
        self.seen[function.__name__] += 1
        return function(*arguments, **settings)
