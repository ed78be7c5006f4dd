"""How many threads torch computes with: sums are added up in another order with another number, and the last bits differ."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from schemas.results.artifacts import Manifest
from tasks.storage.atomic import write_atomic
from tasks.storage.intact import open_sealed
from tasks.storage.reading import read_stored
from tasks.storage.steps import MANIFEST, StepPlan

Work = Callable[[Path], dict[str, Any]]
BEGUN = "threads"
"""In the scratch folder of a step that survives a kill: the number it began with."""


def on_threads(plan: StepPlan, work: Work, resumes: bool = False) -> Work:
    """Do the work of a step with as many threads as torch has in this process, and put the number among its facts.

    A step that was done before and is damaged is done with the number of then; one that `resumes` (its scratch folder
    survives a kill) goes on with the number it began with. So both come to the same bytes.
    """

    def counted(folder: Path) -> dict[str, Any]:
        import torch

        own = torch.get_num_threads()
        threads = _begun_with(plan.scratch) or _done_with(plan.folder) or own
        if resumes:
            write_atomic(plan.scratch / BEGUN, f"{threads}\n")
        torch.set_num_threads(threads)
        try:
            return {**work(folder), "threads": threads}
        finally:
            torch.set_num_threads(own)

    return counted


def _begun_with(scratch: Path) -> int | None:
    try:
        return int(read_stored(scratch / BEGUN)) or None
    except (OSError, ValueError):
        return None


def _done_with(folder: Path) -> int | None:
    """Of a folder whose manifest still is what was written."""
    try:
        facts = Manifest.model_validate(open_sealed(read_stored(folder / MANIFEST))).facts
    except (OSError, ValueError, ValidationError):
        return None
    return facts.get("threads")
