"""How long and how fast to train."""

from typing import Literal, Self

from pydantic import Field, model_validator

from schemas.base import Schema

MAX_TOKENS = 10**12
"""Of one training: more is a slip of the pen, and its plan would not fit in any memory."""
_READ_BY = {
    "wsd": ("decay_ratio",),
    "infinite": ("decay_ratio", "cooldown_ratio", "constant_ratio", "min_ratio"),
}
"""Schedule -> the settings that only it reads."""


class Training(Schema):
    """The training loop's settings. Exactly one of `tokens`, `epochs`, `steps` sets its length."""

    tokens: int | None = Field(default=None, ge=1, le=MAX_TOKENS)
    """Length in label tokens, domain and replay together."""
    epochs: float | None = Field(default=None, gt=0, le=10_000, allow_inf_nan=False)
    """Length in passes over the domain text (replay comes on top)."""
    steps: int | None = Field(default=None, ge=1, le=10**9)
    """Length in optimizer steps."""
    documents: int | None = Field(default=None, ge=1, le=10**12)
    """Train on at most so many documents of the domain, chosen by the seed (to learn what less data would give)."""
    sequence_length: int = Field(default=1024, ge=8, le=2**22)
    """Tokens per packed sequence."""
    batch_tokens: int = Field(default=32768, ge=8, le=2**31)
    """Tokens per optimizer step: a whole number of sequences."""
    micro_batch_tokens: int | None = Field(default=None, ge=8, le=2**31)
    """Tokens per forward pass; the rest is gradient accumulation. By default 8192 (or batch_tokens, if less)."""
    learning_rate: float = Field(default=2e-4, gt=0, le=1, allow_inf_nan=False)
    """Peak learning rate."""
    schedule: Literal["constant", "linear", "cosine", "wsd", "infinite"] = "cosine"
    """Shape after warm-up. `cosine` and `linear` end at zero: in each increment the rate warms up and decays again.
    `wsd` stays at the peak and decays at the end (Hu et al., 2024); `infinite` cools down to a constant rate that further
    increments can go on with, and anneals at the end (Ibrahim et al., 2024)."""
    decay_ratio: float | None = Field(default=None, gt=0, le=1)
    """Share of the steps that decay at the end, for `wsd` and `infinite`; 0.1 by default."""
    cooldown_ratio: float | None = Field(default=None, gt=0, le=1)
    """Share of the steps from the peak down to the constant rate, for `infinite`; 0.25 by default."""
    constant_ratio: float | None = Field(default=None, gt=0, le=1)
    """Constant rate as a share of the peak, for `infinite`; 0.5 by default."""
    min_ratio: float | None = Field(default=None, gt=0, le=1)
    """Rate at the end as a share of the peak, for `infinite`; 0.1 by default."""
    warmup_ratio: float = Field(default=0.05, ge=0, le=1)
    """Share of the steps that warm up from zero."""
    weight_decay: float = Field(default=0.0, ge=0, le=1000, allow_inf_nan=False)
    """AdamW's decoupled weight decay."""
    adam_beta2: float = Field(default=0.95, gt=0, lt=1)
    """AdamW's second beta."""
    max_grad_norm: float = Field(default=1.0, gt=0, le=10**12, allow_inf_nan=False)
    """Gradients are clipped to this norm."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass: less memory, about a third more time."""
    checkpoint_every: int = Field(default=100, ge=1, le=10**9)
    """Optimizer steps between checkpoints: at most so many are lost by a kill."""
    seed: int = Field(default=17, ge=0, lt=2**32)
    """Seed of everything random: split, mixture, order, initialisation, dropout."""

    @property
    def decays(self) -> float:
        """decay_ratio, or its default."""
        return 0.1 if self.decay_ratio is None else self.decay_ratio

    @property
    def cools(self) -> float:
        """cooldown_ratio, or its default."""
        return 0.25 if self.cooldown_ratio is None else self.cooldown_ratio

    @property
    def constant(self) -> float:
        """constant_ratio, or its default."""
        return 0.5 if self.constant_ratio is None else self.constant_ratio

    @property
    def least(self) -> float:
        """min_ratio, or its default."""
        return 0.1 if self.min_ratio is None else self.min_ratio

    @model_validator(mode="after")
    def _phases(self) -> Self:
        read = _READ_BY.get(self.schedule, ())
        dead = [name for name in _READ_BY["infinite"] if getattr(self, name) is not None and name not in read]
        if dead:
            raise ValueError(
                f"{dead[0]}: schedule '{self.schedule}' does not read it; remove it"
                f" (it belongs to {' and '.join(kind for kind, names in _READ_BY.items() if dead[0] in names)})"
            )
        phases = self.decays + (self.cools if self.schedule == "infinite" else 0.0)
        if read and phases + self.warmup_ratio > 1:
            raise ValueError(
                "decay_ratio: warm-up and the phases of the schedule are longer than the training; lower one"
            )
        if self.schedule == "infinite" and self.least > self.constant:
            raise ValueError(
                "min_ratio: is above constant_ratio, so the rate would rise at the end; lower it"
            )
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        given = [name for name in ("tokens", "epochs", "steps") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"the length is given {len(given)} times ({', '.join(given) or 'tokens, epochs and steps are all missing'});"
                " keep exactly one of tokens, epochs, steps (on the command line: --set training.KEY=null removes one)"
            )
        if (self.steps or 0) * self.batch_tokens > MAX_TOKENS:
            raise ValueError(
                f"{self.steps} steps of {self.batch_tokens} tokens are more than {MAX_TOKENS:,} tokens; lower steps"
            )
        if self.batch_tokens % self.sequence_length:
            raise ValueError(
                f"batch_tokens ({self.batch_tokens}) must be a whole number of sequences of"
                f" sequence_length ({self.sequence_length});"
                f" write batch_tokens: {self.sequence_length * max(1, round(self.batch_tokens / self.sequence_length))}"
            )
        micro = self.micro_batch_tokens
        if micro is not None and (micro % self.sequence_length or self.batch_tokens % micro):
            raise ValueError(
                f"micro_batch_tokens ({micro}) must be a whole number of sequences and divide"
                f" batch_tokens ({self.batch_tokens}); leave it out, or write {self.sequence_length}"
            )
        return self
