"""Settings of every tuning method. The keys are the papers' names."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from schemas.spec.methods.adapters import (
    Adapter,
    AdapterDrop,
    AdapterFusion,
    AdapterParallel,
    AdapterPfeiffer,
    Mam,
    PTuningTemplate,
    Unipelt,
)
from schemas.spec.methods.base import MethodSettings, Update
from schemas.spec.methods.peft import (
    AdaLora,
    Ia3,
    Lora,
    Osf,
    PrefixTuning,
    PromptTuning,
    PTuning,
    PTuningV2,
    Qlora,
    Vera,
)
from schemas.spec.methods.subset import BitFit, DiffPruning, Fisher, HeadOnly, Lisa, Selective, Sparse

if TYPE_CHECKING:
    from schemas.spec.run import RunSpec

__all__ = ["Full", "Lora", "Method", "MethodSettings"]


class Full(MethodSettings):
    """Full fine-tuning: every parameter trains."""

    update: ClassVar[Update] = "own_weights"
    from_scratch: ClassVar[bool] = True
    changes_base: ClassVar[bool] = True
    replaces_base: ClassVar[bool] = True

    kind: Literal["full"] = "full"
    anchor: Literal["none", "l2_sp", "decay_to_base"] = "none"
    """Pull towards the base: L2-SP (Li et al., 2018), a penalty in the loss; or a decay towards the base's weights
    after each step, decoupled from the gradient as AdamW's decay to zero is (Loshchilov and Hutter, 2019)."""
    anchor_strength: float | None = Field(default=None, gt=0, le=10**9, allow_inf_nan=False)
    """Strength of the pull: L2-SP adds strength / 2 times the squared distance to the loss; decay_to_base removes
    learning rate times strength of the distance at each step."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.anchor == "none") != (self.anchor_strength is None):
            raise ValueError(
                "anchor_strength: give it exactly when anchor is not 'none'; write anchor: l2_sp, or remove anchor_strength"
            )
        return self

    def problems(self, spec: "RunSpec") -> Iterator[str]:
        """See MethodSettings."""
        pull = spec.training.learning_rate * (self.anchor_strength or 0.0)
        if self.anchor == "decay_to_base" and pull >= 1:
            yield (
                "method.anchor_strength: times training.learning_rate it is the whole way back to the base;"
                " lower one of them until it is below 1"
            )


Method = Annotated[
    Full
    | Lora
    | AdaLora
    | Qlora
    | Ia3
    | Vera
    | Osf
    | PromptTuning
    | PrefixTuning
    | PTuning
    | PTuningV2
    | Selective
    | HeadOnly
    | BitFit
    | Lisa
    | Sparse
    | Fisher
    | DiffPruning
    | Adapter
    | AdapterPfeiffer
    | AdapterParallel
    | AdapterDrop
    | AdapterFusion
    | Mam
    | Unipelt
    | PTuningTemplate,
    Field(discriminator="kind"),
]
