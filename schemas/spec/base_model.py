"""The model a run starts from: a folder, a Hub id, or a new one trained from scratch."""

from typing import Annotated, Any

from pydantic import Discriminator, Field, StringConstraints, Tag

from schemas.base import Schema


class Tokenizer(Schema):
    """A byte-fallback BPE tokenizer, trained on the run's own domain text."""

    vocab_size: int = Field(default=4096, ge=512, le=300_000)
    """Tokens in all, the 256 byte tokens and the special ones included."""
    alphabet_size: int = Field(default=1500, ge=64, le=300_000)
    """At most so many distinct characters get a token of their own; rarer ones are spelt in bytes."""


class Scratch(Schema):
    """A Llama-architecture model with random weights and a new tokenizer."""

    hidden_size: int = Field(default=128, ge=8, le=65_536)
    """Width of the residual stream."""
    intermediate_size: int = Field(default=352, ge=8, le=2**20)
    """Width of the feed-forward layers."""
    layers: int = Field(default=6, ge=1, le=1000)
    """Number of transformer blocks."""
    heads: int = Field(default=4, ge=1, le=1024)
    """Attention heads; must divide hidden_size."""
    kv_heads: int = Field(default=2, ge=1, le=1024)
    """Key-value heads; must divide heads."""
    context_length: int = Field(default=512, ge=16, le=2**22)
    """Longest sequence the model is meant for, in tokens."""
    tokenizer: Tokenizer = Tokenizer()
    """The tokenizer to train."""


class FromScratch(Schema):
    """Train a new base model instead of tuning an old one."""

    from_scratch: Scratch
    """Its architecture."""


def _kind(value: Any) -> str:
    return "from_scratch" if isinstance(value, dict | FromScratch) else "model"


Base = Annotated[
    Annotated[str, StringConstraints(min_length=1), Tag("model")]
    | Annotated[FromScratch, Tag("from_scratch")],
    Discriminator(_kind),
]
