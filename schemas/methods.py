"""Settings of every tuning method. The keys are the papers' names."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from schemas.method_settings import MethodSettings
from schemas.methods_adapters import (
    Adapter,
    AdapterDrop,
    AdapterFusion,
    AdapterParallel,
    AdapterPfeiffer,
    Mam,
    PTuningTemplate,
    Unipelt,
)


class Full(MethodSettings):
    """Full fine-tuning: every parameter trains."""

    changes_base: ClassVar[bool] = True

    kind: Literal["full"] = "full"


class Lora(MethodSettings):
    """LoRA (Hu et al., 2021): a low-rank update beside frozen matrices."""

    kind: Literal["lora"] = "lora"
    r: int = Field(default=16, ge=1, le=4096)
    """Rank of the update."""
    alpha: float = Field(default=32, gt=0, allow_inf_nan=False)
    """Scale: the update is multiplied by alpha / r."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the input of the update."""
    target_modules: tuple[str, ...] | Literal["all-linear"] = "all-linear"
    """Names of the modules that get an update; `all-linear` is every linear layer but the output head."""


Adapters = (
    Adapter
    | AdapterPfeiffer
    | AdapterParallel
    | AdapterDrop
    | AdapterFusion
    | Mam
    | Unipelt
    | PTuningTemplate
)

Method = Annotated[Full | Lora | Adapters, Field(discriminator="kind")]
