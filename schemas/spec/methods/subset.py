"""Settings of the methods that train a part of the base's own weights."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from schemas.spec.methods.base import MethodSettings, Update
from schemas.spec.methods.peft import Targets

MaskTargets = tuple[str, ...] | Literal["all-linear", "all"]


class Selective(MethodSettings):
    """Selective tuning: some of the layers train, chosen by place, by name or by the size of their gradients."""

    update: ClassVar[Update] = "own_weights"
    changes_base: ClassVar[bool] = True

    kind: Literal["selective"] = "selective"
    choose: Literal["last", "first", "gradient", "patterns"] = "last"
    """Which: the last or first layers, those with the largest gradient norm on the run's own first batches,
    or the parameters whose names match `patterns`."""
    layers: int | None = Field(default=None, ge=1, le=10_000)
    """How many layers train (2 unless given; not with `patterns`)."""
    patterns: tuple[str, ...] = ()
    """Shell patterns of parameter names, such as `*.self_attn.*` (only with choose `patterns`)."""
    gradient_batches: int | None = Field(default=None, ge=1, le=10**6)
    """Micro-batches over which gradients are averaged (8 unless given; only with choose `gradient`)."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.choose == "patterns") != bool(self.patterns):
            raise ValueError(
                "patterns: give them exactly when choose is 'patterns'; write choose: patterns, or remove patterns"
            )
        if self.choose == "patterns" and self.layers is not None:
            raise ValueError("layers: patterns say what trains; remove it")
        if self.choose != "gradient" and self.gradient_batches is not None:
            raise ValueError("gradient_batches: nothing is measured unless choose is 'gradient'; remove it")
        return self


class HeadOnly(MethodSettings):
    """Linear probing: the base is frozen, the new head of the task trains."""

    needs_task_head: ClassVar[bool] = True
    freezes_body: ClassVar[bool] = True

    kind: Literal["head_only"] = "head_only"


class BitFit(MethodSettings):
    """BitFit (Ben Zaken et al., 2022): the biases train."""

    update: ClassVar[Update] = "own_weights"
    changes_base: ClassVar[bool] = True

    kind: Literal["bitfit"] = "bitfit"
    biases: Literal["all", "query_and_second_mlp"] = "all"
    """All biases, or the paper's half of them: of the queries and of the feed-forward layer's inner activations."""


class Lisa(MethodSettings):
    """LISA (Pan et al., 2024): embeddings and head train always, of the layers a few at a time, drawn anew."""

    update: ClassVar[Update] = "own_weights"
    changes_base: ClassVar[bool] = True
    replaces_base: ClassVar[bool] = True

    kind: Literal["lisa"] = "lisa"
    layers: int = Field(default=2, ge=1, le=10_000)
    """Layers that train at a time (the paper's gamma)."""
    interval: int = Field(default=20, ge=1, le=10**8)
    """Optimizer steps between two draws (the paper's K)."""


class Sparse(MethodSettings):
    """Sparse tuning after SHiRA (Bhardwaj et al., 2024): a random few of the weights of each matrix train."""

    update: ClassVar[Update] = "sparse"

    kind: Literal["sparse"] = "sparse"
    trainable_ratio: float = Field(default=0.02, gt=0, lt=1)
    """Share of the weights that train."""
    target_modules: MaskTargets = "all-linear"
    """Names of the modules whose weights may train; `all-linear` is every linear layer but the output head,
    `all` every parameter."""


class Fisher(MethodSettings):
    """FISH mask (Sung et al., 2021): the weights with the largest Fisher information on the run's own text train."""

    update: ClassVar[Update] = "sparse"

    kind: Literal["fisher"] = "fisher"
    trainable_ratio: float = Field(default=0.005, gt=0, lt=1)
    """Share of the weights that train."""
    samples: int = Field(default=1024, ge=1, le=10**9)
    """Documents on which the Fisher information is measured (all there are, if fewer)."""
    target_modules: MaskTargets = "all"
    """Names of the modules whose weights may train; `all-linear` is every linear layer but the output head,
    `all` every parameter."""


class DiffPruning(MethodSettings):
    """Diff pruning (Guo et al., 2021): a difference to the base that learns which of its entries it needs."""

    changes_what_trains: ClassVar[bool] = True

    kind: Literal["diff_pruning"] = "diff_pruning"
    target_ratio: float = Field(default=0.005, gt=0, lt=1)
    """Share of the weights that differ from the base in the end."""
    sparsity_penalty: float = Field(default=1.25e-7, ge=0, le=10**6, allow_inf_nan=False)
    """Weight of the expected number of differing weights in the loss (the paper's lambda)."""
    alpha_initial: float = Field(default=5.0, ge=-1000, le=1000, allow_inf_nan=False)
    """Start of every gate's log-odds (the paper's log alpha); at 5 nearly all gates are open."""
    final_ratio: float = Field(default=0.25, ge=0, lt=1)
    """Share of the steps in which the chosen weights go on training, the others cut to the base's."""
    target_modules: Targets = "all-linear"
    """Names of the modules whose weights may differ; `all-linear` is every linear layer but the output head."""
