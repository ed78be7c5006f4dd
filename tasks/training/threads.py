"""How many threads torch computes with: sums are added up in another order with another number, and the last bits differ."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from schemas.artifacts import Manifest
from tasks.storage.atomic import write_atomic
from tasks.storage.intact import open_sealed
from tasks.storage.steps import MANIFEST, StepPlan


@contextmanager
def threads_of(plan: StepPlan) -> Iterator[int]:
    """Compute with as many threads as this very step began with before it was killed, or was done with before it was damaged.

    A step that begins takes the number that torch has in this process.
    """
    import torch

    own = torch.get_num_threads()
    threads = _begun_with(plan.scratch) or _done_with(plan.folder) or own
    write_atomic(plan.scratch / "threads", f"{threads}\n")
    torch.set_num_threads(threads)
    try:
        yield threads
    finally:
        torch.set_num_threads(own)


def _begun_with(scratch: Path) -> int | None:
    try:
        return int((scratch / "threads").read_text()) or None
    except (OSError, ValueError):
        return None


def _done_with(folder: Path) -> int | None:
    """Of a folder whose manifest still is what was written."""
    try:
        facts = Manifest.model_validate(open_sealed((folder / MANIFEST).read_bytes())).facts
    except (OSError, ValueError, ValidationError):
        return None
    return facts.get("threads")
