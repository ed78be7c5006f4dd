"""metrics.jsonl: one line per logged step."""

from collections.abc import Callable
from pathlib import Path

from schemas.results.artifacts import StepMetrics
from tasks.storage.reading import read_stored

OnMetrics = Callable[[StepMetrics, int], None]  # (metrics, total steps)


def read_metrics(file: Path) -> list[StepMetrics]:
    """Lines of a metrics file; a last line torn by a kill is left out."""
    if not file.is_file():
        return []
    lines = read_stored(file).decode().split("\n")[:-1]
    return [StepMetrics.model_validate_json(line) for line in lines if line]
