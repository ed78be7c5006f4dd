"""Settings of the methods that insert modules of ours into a frozen base. The keys are the papers' names."""

import re
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from schemas.spec.methods.base import MethodSettings

Activation = Literal["relu", "gelu", "silu", "tanh"]


class Bottleneck(MethodSettings):
    """A bottleneck of `size` units between two linear layers."""

    merges: ClassVar[bool] = False

    size: int | None = Field(default=None, ge=1, le=65536)
    """Units of the bottleneck, in place of `reduction_factor`."""
    reduction_factor: float | None = Field(default=None, ge=1, le=65_536, allow_inf_nan=False)
    """Width of the model over units of the bottleneck; 16 where neither this nor `size` is given."""
    activation: Activation = "relu"
    """Nonlinearity of the bottleneck."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the bottleneck's activations."""

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if self.size is not None and self.reduction_factor is not None:
            raise ValueError("size and reduction_factor both set the bottleneck; keep one of them")
        return self


class Adapter(Bottleneck):
    """Adapters (Houlsby et al., 2019): a bottleneck after attention and another after the feed-forward network."""

    kind: Literal["adapter"] = "adapter"
    activation: Activation = "gelu"
    """Nonlinearity of the bottleneck."""
    train_norms: bool = True
    """Train the normalisation layers of the blocks too, as the paper does."""


class AdapterPfeiffer(Bottleneck):
    """Pfeiffer's adapters (Pfeiffer et al., 2021): one bottleneck per block, after the feed-forward network."""

    kind: Literal["adapter_pfeiffer"] = "adapter_pfeiffer"
    per_task: bool = False
    """multi_task: an adapter of its own for each task, trained together; `false` is one that all tasks share."""

    @property
    def has_task_modules(self) -> bool:
        """With an adapter for each task."""
        return self.per_task


class AdapterParallel(Bottleneck):
    """Scaled parallel adapters (He et al., 2022): a bottleneck beside the feed-forward network, from its own input."""

    kind: Literal["adapter_parallel"] = "adapter_parallel"
    reduction_factor: float | None = Field(default=None, ge=1, le=65_536, allow_inf_nan=False)
    """Width of the model over units of the bottleneck; 2 where neither this nor `size` is given."""
    scale: float = Field(default=4.0, gt=0, le=10**6, allow_inf_nan=False)
    """What the bottleneck gives is multiplied by it."""


class AdapterDrop(Bottleneck):
    """AdapterDrop (Rücklé et al., 2021): Pfeiffer's adapters that the lowest blocks can do without."""

    kind: Literal["adapter_drop"] = "adapter_drop"
    training: Literal["robust", "specialized"] = "robust"
    """`robust`: in each step the lowest n blocks train without, n drawn anew; `specialized`: always the lowest `drop_blocks`."""
    drop_blocks: int = Field(default=0, ge=0, le=10_000)
    """Lowest blocks whose adapters are left out when the model is used; `rootstock export --drop-blocks` changes it."""

    @model_validator(mode="after")
    def _drops(self) -> Self:
        if self.training == "specialized" and not self.drop_blocks:
            raise ValueError("training: specialized drops nothing while drop_blocks is 0; give drop_blocks")
        return self


class AdapterFusion(MethodSettings):
    """AdapterFusion (Pfeiffer et al., 2021): attention over the frozen adapters of earlier trainings."""

    merges: ClassVar[bool] = False

    kind: Literal["adapter_fusion"] = "adapter_fusion"
    adapters: tuple[str, ...] = Field(min_length=2)
    """Folders of runs (or of their models) with method adapter_pfeiffer on the same base; FOLDER#TASK names one of a
    run that trained an adapter per task."""
    regularization: float = Field(default=0.01, ge=0, le=10**6, allow_inf_nan=False)
    """Strength of the pull of each value matrix V towards the identity: times the squared Frobenius norm of V - I."""

    @model_validator(mode="after")
    def _different(self) -> Self:
        if len(set(self.adapters)) < len(self.adapters):
            raise ValueError("adapters: an adapter is named twice; name each once")
        return self

    def folders(self) -> tuple[str, ...]:
        """The adapters."""
        return self.adapters


class Mam(AdapterParallel):
    """MAM adapter (He et al., 2022): a short prefix in attention and a scaled parallel adapter."""

    kind: Literal["mam"] = "mam"  # type: ignore[assignment]
    prefix_length: int = Field(default=30, ge=1, le=4096)
    """Keys and values in front of each attention's own."""
    prefix_mlp_size: int | None = Field(default=800, ge=1, le=65536)
    """Units of the network that the prefix is made from while it trains; `null` trains the prefix itself."""


class Unipelt(Bottleneck):
    """UniPELT (Mao et al., 2022): LoRA on queries and values, a prefix, and Pfeiffer's adapter, each behind a gate."""

    kind: Literal["unipelt"] = "unipelt"
    r: int = Field(default=8, ge=1, le=4096)
    """Rank of LoRA's update."""
    alpha: float = Field(default=16, gt=0, le=10**6, allow_inf_nan=False)
    """Scale of LoRA's update: it is multiplied by alpha / r, and by its gate."""
    prefix_length: int = Field(default=10, ge=1, le=4096)
    """Keys and values in front of each attention's own."""
    prefix_mlp_size: int | None = Field(default=512, ge=1, le=65536)
    """Units of the network that the prefix is made from while it trains; `null` trains the prefix itself."""


_PIECE = re.compile(r"\{(?:v(?P<virtual>[1-9]\d{0,3})|text(?::(?P<length>[1-9]\d{0,5}))?)\}")


class PTuningTemplate(MethodSettings):
    """P-Tuning with a template (Liu et al., 2021): virtual tokens in front of the text and inside it."""

    merges: ClassVar[bool] = False
    packs: ClassVar[bool] = False

    kind: Literal["p_tuning_template"] = "p_tuning_template"
    template: str = "{v10}{text}"
    """Where virtual tokens stand: `{v4}` is four of them, `{text:16}` the text's next 16 tokens, `{text}` all the rest."""
    encoder: Literal["lstm", "mlp"] = "lstm"
    """What makes the virtual tokens while they train: a bidirectional LSTM and two layers, or the two layers alone."""

    @model_validator(mode="after")
    def _readable(self) -> Self:
        pieces = [piece for piece in re.split(r"(?<=\})", self.template) if piece]
        wrong = next((piece for piece in pieces if not _PIECE.fullmatch(piece)), None)
        if wrong is not None:
            raise ValueError(
                f"template: {wrong} is no part of a template; write {{v4}}, {{text:16}} and {{text}}"
            )
        if pieces.count("{text}") != 1 or pieces[-1] != "{text}":
            raise ValueError(
                "template: no token of a text sees what stands behind it, so it would never be trained; end with {text}, once"
            )
        if not self.groups():
            raise ValueError("template: it has no virtual tokens; add some, for example {v10}{text}")
        return self

    def groups(self) -> tuple[tuple[int, int], ...]:
        """(number of text tokens before, number of virtual tokens), from the front on."""
        found: dict[int, int] = {}
        at = 0
        for piece in _PIECE.finditer(self.template):
            if piece["virtual"]:
                found[at] = found.get(at, 0) + int(piece["virtual"])
            at += int(piece["length"] or 0)
        return tuple(found.items())
