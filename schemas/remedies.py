"""Settings of every remedy against forgetting. The keys are the papers' names."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from schemas.base import Schema


class RemedySettings(Schema):
    """What is known of a remedy before any model is loaded."""

    reads_outputs: ClassVar[bool] = False
    """Looks at the logits of each forward pass, or weighs its label tokens."""
    methods: ClassVar[tuple[str, ...] | None] = None
    """Tuning methods that it can work on; None: any."""
    objectives: ClassVar[tuple[str, ...] | None] = ("language_modeling",)
    """Objectives that it can work on; None: any."""

    kind: str

    @property
    def general_sample(self) -> int:
        """Label tokens of general text that must be drawn for it; they may be trained on too."""
        return 0

    @property
    def development_sample(self) -> int:
        """Label tokens, half domain and half general, that must be kept from training for it."""
        return 0


MOVES_WEIGHTS = ("full", "selective", "bitfit", "lisa")
"""Methods that train the base's own parameters."""
LOW_RANK = ("lora",)
"""Methods whose difference to the base is one matrix per module, linear in half of what trains."""


class Ewc(RemedySettings):
    """Elastic weight consolidation (Kirkpatrick et al., 2017): weights that general text depends on are held; with
    gamma online (Schwarz et al., 2018), so that each increment adds to what is held."""

    methods: ClassVar[tuple[str, ...] | None] = (*MOVES_WEIGHTS, *LOW_RANK)

    kind: Literal["ewc"] = "ewc"
    strength: float = Field(default=100.0, ge=0, allow_inf_nan=False)
    """Lambda: the loss gets strength / 2 times the sum of Fisher information times squared distance to the base."""
    general_tokens: int = Field(default=20_000, ge=1)
    """Label tokens of replay text that the Fisher information is measured on."""
    gamma: float | None = Field(default=None, gt=0, le=1)
    """Online: the base's own stored Fisher information times gamma is added, and the sum is stored beside the model."""

    @property
    def general_sample(self) -> int:
        return self.general_tokens


class Distillation(RemedySettings):
    """Learning without forgetting (Li and Hoiem, 2016): the predictions of the base are learnt along with the text."""

    reads_outputs: ClassVar[bool] = True

    kind: Literal["distillation"] = "distillation"
    strength: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    """The paper's lambda_o: factor of the divergence from the base, in nats per label token."""
    temperature: float = Field(default=2.0, gt=0, le=100, allow_inf_nan=False)
    """The paper's T: both predictions are softened by it."""
    on: Literal["replay", "all"] = "replay"
    """On which text the base is followed: general text only, or also the domain's."""
    top_k: int = Field(default=32, ge=1)
    """So many of the base's likeliest tokens are kept for each position (8 bytes each), the others as one class."""


Remedy = Annotated[Ewc | Distillation, Field(discriminator="kind")]
