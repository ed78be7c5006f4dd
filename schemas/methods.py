"""Settings of every tuning method. The keys are the papers' names."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from schemas.base import Schema


class MethodSettings(Schema):
    """What is known of a method before any model is loaded."""

    changes_base: ClassVar[bool] = False
    """The base's own weights move while training, so they are kept in fp32."""
    packs: ClassVar[bool] = True
    """Documents that share a packed sequence stay apart; otherwise each trains as a padded row of its own."""
    checkpoints_activations: ClassVar[bool] = True
    """Works with training.gradient_checkpointing."""
    needs_task_head: ClassVar[bool] = False
    """Trains nothing in a language model: only models with a new task head have something to train."""

    kind: str


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


Method = Annotated[Full | Lora, Field(discriminator="kind")]
