"""Settings of the methods that PEFT does: low rank, rescaling, orthogonal subspaces, prompts."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from schemas.spec.methods.base import MethodSettings, Update

Targets = tuple[str, ...] | Literal["all-linear"]


class Lora(MethodSettings):
    """LoRA (Hu et al., 2021): a low-rank update beside frozen matrices, with its refinements as settings."""

    update: ClassVar[Update] = "low_rank"

    kind: Literal["lora"] = "lora"
    r: int = Field(default=16, ge=1, le=4096)
    """Rank of the update."""
    alpha: float = Field(default=32, gt=0, le=10**6, allow_inf_nan=False)
    """Scale: the update is multiplied by alpha / r."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the input of the update."""
    target_modules: Targets = "all-linear"
    """Names of the modules that get an update; `all-linear` is every linear layer but the output head."""
    rank_stabilized: bool = False
    """rsLoRA (Kalajdzievski, 2023): the update is multiplied by alpha / sqrt(r), so that large ranks keep learning."""
    weight_decomposed: bool = False
    """DoRA (Liu et al., 2024): the norm of each output row of the weight trains apart from its direction."""
    init: Literal["default", "pissa", "olora"] = "default"
    """Start of the matrices: zero update; PiSSA (Meng et al., 2024): the largest singular directions of the weight;
    OLoRA (Buyukakyuz, 2024): its first QR directions."""
    learning_rate_ratio: float = Field(default=1.0, gt=0, le=1000, allow_inf_nan=False)
    """LoRA+ (Hayou et al., 2024): B learns at so many times the rate of A; 16 in the paper, 1 is plain LoRA."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.init == "default":
            return self
        if self.weight_decomposed:
            raise ValueError(
                f"weight_decomposed: DoRA's norms belong to the whole weight, but init '{self.init}' takes a part"
                " of it into the adapter; set one of them back to its default"
            )
        if self.dropout > 0:
            raise ValueError(
                f"dropout: with init '{self.init}' it would drop a part of the base's own weight; set it to 0"
            )
        return self

    @property
    def odd_update(self) -> str | None:
        """See MethodSettings: DoRA's is no product, that of PiSSA and OLoRA starts elsewhere."""
        plain = not self.weight_decomposed and self.init == "default"
        return None if plain else "set method.weight_decomposed and method.init back to their defaults"


class AdaLora(MethodSettings):
    """AdaLoRA (Zhang et al., 2023): the rank budget goes to the matrices where it matters, while training."""

    changes_what_trains: ClassVar[bool] = True

    kind: Literal["adalora"] = "adalora"
    init_r: int = Field(default=12, ge=2, le=4096)
    """Rank of every update at the start."""
    target_r: int = Field(default=8, ge=1, le=4096)
    """Average rank at the end; some updates keep more, some none."""
    alpha: float = Field(default=32, gt=0, le=10**6, allow_inf_nan=False)
    """Scale: the update is multiplied by alpha / init_r."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the input of the update."""
    target_modules: Targets = "all-linear"
    """Names of the modules that get an update; `all-linear` is every linear layer but the output head."""
    warmup_ratio: float = Field(default=0.1, ge=0, lt=1)
    """Share of the steps before the budget begins to fall (the paper's t_i)."""
    final_ratio: float = Field(default=0.4, ge=0, lt=1)
    """Share of the steps after the budget has reached its end (the paper's t_f)."""
    delta_t: int = Field(default=10, ge=1, le=10**8)
    """Steps between two allocations."""
    beta1: float = Field(default=0.85, gt=0, lt=1)
    """Smoothing of the sensitivity."""
    beta2: float = Field(default=0.85, gt=0, lt=1)
    """Smoothing of its uncertainty."""
    orthogonality: float = Field(default=0.5, ge=0, le=10**6, allow_inf_nan=False)
    """Weight of the penalty that keeps the singular vectors orthogonal (the paper's gamma)."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.target_r >= self.init_r:
            raise ValueError(
                f"target_r: must be below init_r ({self.init_r}), or there is no rank to allocate; lower target_r or raise init_r"
            )
        if self.warmup_ratio + self.final_ratio >= 1:
            raise ValueError(
                "final_ratio: warmup_ratio and final_ratio must leave steps in which the budget falls; lower one of them"
            )
        return self


class Qlora(MethodSettings):
    """QLoRA (Dettmers et al., 2023): LoRA beside a base held in 4 bits (NF4, double quantisation)."""

    merges: ClassVar[bool] = False

    kind: Literal["qlora"] = "qlora"
    r: int = Field(default=64, ge=1, le=4096)
    """Rank of the update."""
    alpha: float = Field(default=16, gt=0, le=10**6, allow_inf_nan=False)
    """Scale: the update is multiplied by alpha / r."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout on the input of the update (the paper's 0.1; above 30 billion parameters it takes 0.05)."""
    target_modules: Targets = "all-linear"
    """Names of the modules that get an update; `all-linear` is every linear layer but the output head."""
    double_quantization: bool = True
    """Quantise the quantisation constants too: 0.37 bits less per weight."""


class Ia3(MethodSettings):
    """(IA)^3 (Liu et al., 2022): vectors that rescale keys, values and the feed-forward layer's inner activations."""

    kind: Literal["ia3"] = "ia3"
    target_modules: tuple[str, ...] | None = None
    """Names of the modules whose output is rescaled; by default the key and value projections."""
    feedforward_modules: tuple[str, ...] | None = None
    """Names of the modules whose input is rescaled; by default the second matrix of each feed-forward layer."""


class Vera(MethodSettings):
    """VeRA (Kopiczko et al., 2024): one pair of random matrices for all layers, and vectors of their own that scale it."""

    kind: Literal["vera"] = "vera"
    r: int = Field(default=256, ge=1, le=8192)
    """Rank of the random matrices."""
    d_initial: float = Field(default=0.1, ge=-(10**6), le=10**6, allow_inf_nan=False)
    """Start of the vector d; the vector b starts at zero."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the input of the update."""
    target_modules: Targets = "all-linear"
    """Names of the modules that get an update; `all-linear` is every linear layer but the output head."""


class Osf(MethodSettings):
    """OSF (Nayak et al., 2025): only the small singular directions train, orthogonal to the large ones, which stay."""

    kind: Literal["osf"] = "osf"
    preserved_ratio: float = Field(default=0.5, gt=0, lt=1)
    """Share of each matrix's singular directions that are kept, the largest first."""
    target_modules: Targets = "all-linear"
    """Names of the modules that train; `all-linear` is every linear layer but the output head."""


class VirtualTokens(MethodSettings):
    """Virtual tokens in front of every text: they ignore position_ids, so documents are not packed."""

    merges: ClassVar[bool] = False
    packs: ClassVar[bool] = False

    virtual_tokens: int = Field(default=20, ge=1, le=4096)
    """How many virtual tokens stand in front of a text; the model's context must have room for them."""


class PromptTuning(VirtualTokens):
    """Prompt tuning (Lester et al., 2021): embeddings of virtual tokens in front of the text."""

    kind: Literal["prompt_tuning"] = "prompt_tuning"
    virtual_tokens: int = Field(default=100, ge=1, le=4096)
    """How many virtual tokens stand in front of a text; the model's context must have room for them."""
    init: Literal["random", "vocabulary", "text"] = "vocabulary"
    """Start: random numbers, embeddings of random tokens, or those of `text`."""
    text: str | None = None
    """The text to start from (init `text`); repeated or cut to the number of virtual tokens."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.init == "text") != (self.text is not None):
            raise ValueError("text: give it exactly when init is 'text'; write init: text, or remove text")
        return self


class PrefixTuning(VirtualTokens):
    """Prefix tuning (Li and Liang, 2021): keys and values of virtual tokens in every layer, made by an MLP."""

    checkpoints_activations: ClassVar[bool] = False

    kind: Literal["prefix_tuning"] = "prefix_tuning"
    virtual_tokens: int = Field(default=10, ge=1, le=4096)
    """Length of the prefix."""
    hidden_size: int = Field(default=512, ge=1, le=65536)
    """Inner width of the MLP, which is not needed any more after training."""


class PTuningV2(VirtualTokens):
    """P-tuning v2 (Liu et al., 2022): keys and values of virtual tokens in every layer, trained directly."""

    checkpoints_activations: ClassVar[bool] = False

    kind: Literal["p_tuning_v2"] = "p_tuning_v2"


class PTuning(VirtualTokens):
    """P-tuning (Liu et al., 2021): embeddings of virtual tokens in front of the text, made by an MLP or LSTM."""

    kind: Literal["p_tuning"] = "p_tuning"
    encoder: Literal["mlp", "lstm"] = "mlp"
    """What makes the embeddings; it is not needed any more after training."""
    hidden_size: int = Field(default=128, ge=1, le=65536)
    """Inner width of the encoder."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout between the two layers of the LSTM."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.encoder == "mlp" and self.dropout > 0:
            raise ValueError("dropout: only the lstm encoder has it; remove it")
        return self
