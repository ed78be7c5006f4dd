"""The base model of a run: found, downloaded, taken from the registry, or made from scratch."""

from dataclasses import dataclass
from pathlib import Path

from schemas.spec.base_model import FromScratch
from schemas.spec.run import RunSpec
from tasks.data.model.folder import model_sha256
from tasks.data.prepare import Prepared
from tasks.training.models.scratch import make_base
from tasks.training.models.weights import find_model


@dataclass(frozen=True)
class BaseModel:
    """Where the base lies and what it is called."""

    folder: Path
    name: str
    """What people call it."""
    reference: str
    """What an adapter trained on it finds it by: a folder or a Hub id."""

    @property
    def sha256(self) -> str:
        return model_sha256(self.folder)


def provide_base(root: Path, spec: RunSpec, prepared: Prepared, champion: Path | None) -> BaseModel:
    """Return the base model; `champion` is the folder that `base_from: champion` means."""
    if isinstance(spec.base, FromScratch):
        folder = make_base(
            root, spec.base.from_scratch, spec.training.seed, prepared.training, prepared.divided
        )
        return BaseModel(folder, "from scratch", str(folder))
    if spec.base is None:
        assert champion is not None
        return BaseModel(champion, f"champion of {spec.name}", str(champion))
    return BaseModel(find_model(spec.base), spec.base, spec.base)
