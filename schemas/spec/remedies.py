"""Settings of every remedy against forgetting. The keys are the papers' names."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from schemas.base import Schema
from schemas.spec.methods.base import Update

if TYPE_CHECKING:
    from schemas.spec.run import RunSpec


class RemedySettings(Schema):
    """What is known of a remedy before any model is loaded."""

    reads_outputs: ClassVar[bool] = False
    """Looks at the logits of each forward pass, or weighs its label tokens."""
    updates: ClassVar[tuple[Update, ...] | None] = None
    """Changes of the base that it can reckon with (MethodSettings.update); None: any."""
    not_with: ClassVar[Mapping[str, str]] = {}
    """Capabilities of methods that it cannot work with, and why: `which ...`."""
    objectives: ClassVar[str | None] = "learns_text"
    """The capability that an objective must have; None: any."""
    writes_text: ClassVar[bool] = False
    """Has the base write replay text."""

    kind: str

    @property
    def general_sample(self) -> int:
        """Label tokens of general text that must be drawn for it; they may be trained on too."""
        return 0

    @property
    def development_sample(self) -> int:
        """Label tokens, half domain and half general, that must be kept from training for it."""
        return 0

    @property
    def contracts(self) -> tuple[str, ...]:
        """Contracts that text which it has written must keep."""
        return ()

    def problems(self, spec: "RunSpec", before: Sequence[str]) -> Iterator[str]:  # noqa: ARG002
        """What in the rest of a specification contradicts it, one `what; fix` each; `before`: kinds named before it."""
        yield from ()


class Ewc(RemedySettings):
    """Elastic weight consolidation (Kirkpatrick et al., 2017): weights that general text depends on are held; with
    gamma online (Schwarz et al., 2018), so that each increment adds to what is held."""

    updates: ClassVar[tuple[Update, ...] | None] = ("own_weights", "low_rank")

    kind: Literal["ewc"] = "ewc"
    strength: float = Field(default=100.0, ge=0, le=10**9, allow_inf_nan=False)
    """Lambda: the loss gets strength / 2 times the sum of Fisher information times squared distance to the base."""
    general_tokens: int = Field(default=20_000, ge=1, le=10**10)
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
    strength: float = Field(default=1.0, ge=0, le=10**9, allow_inf_nan=False)
    """The paper's lambda_o: factor of the divergence from the base, in nats per label token."""
    temperature: float = Field(default=2.0, gt=0, le=100, allow_inf_nan=False)
    """The paper's T: both predictions are softened by it."""
    on: Literal["replay", "all"] = "replay"
    """On which text the base is followed: general text only, or also the domain's."""
    top_k: int = Field(default=32, ge=1, le=10**6)
    """So many of the base's likeliest tokens are kept for each position (8 bytes each), the others as one class."""

    def problems(self, spec: "RunSpec", before: Sequence[str]) -> Iterator[str]:  # noqa: ARG002
        """See RemedySettings."""
        if self.on == "replay" and spec.mixture.replay_ratio == 0:
            yield "there is no replay to distil on; raise mixture.replay_ratio, or set on: all"


class WeightAveraging(RemedySettings):
    """WiSE-FT (Wortsman et al., 2022): after training the weights go back a part of the way to the base."""

    updates: ClassVar[tuple[Update, ...] | None] = ("own_weights", "low_rank", "sparse")

    kind: Literal["weight_averaging"] = "weight_averaging"
    alpha: float | None = Field(default=None, ge=0, le=1)
    """Share of the way from the base to the tuned weights; by default the best on documents kept from training."""
    general_weight: float = Field(default=0.5, ge=0, le=1)
    """Weight of general against domain loss when alpha is chosen."""
    points: int = Field(default=11, ge=2, le=101)
    """So many values of alpha are tried, evenly from 0 to 1."""
    development_tokens: int = Field(default=20_000, ge=2, le=10**10)
    """Label tokens, half domain and half replay text, that are kept from training to choose alpha by; at most a tenth
    of each."""

    @property
    def development_sample(self) -> int:
        return self.development_tokens if self.alpha is None else 0

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = ("general_weight", "points", "development_tokens")
        # not model_fields_set: a stored specification names every key
        dead = [name for name in names if getattr(self, name) != type(self).model_fields[name].default]
        if self.alpha is not None and dead:
            raise ValueError(f"alpha: is given, so {', '.join(dead)} would do nothing; remove one of them")
        return self


class Ema(RemedySettings):
    """Moving average of the weights, started at the base (Tarvainen and Valpola, 2017); it is what is deployed."""

    not_with: ClassVar[Mapping[str, str]] = {"changes_what_trains": "changes what trains on the way"}
    objectives: ClassVar[str | None] = None

    kind: Literal["ema"] = "ema"
    decay: float = Field(default=0.99, ge=0, lt=1)
    """Share of the average that each step keeps; after n steps decay to the power n of it is still the base."""

    def problems(self, spec: "RunSpec", before: Sequence[str]) -> Iterator[str]:  # noqa: ARG002
        """See RemedySettings."""
        if "weight_averaging" in before:
            yield "ema would overwrite what weight_averaging chose; name ema before it"


class LossWeighting(RemedySettings):
    """Multi-task learning (Caruana, 1997): domain and general text in one batch, each token's loss times a factor."""

    reads_outputs: ClassVar[bool] = True

    kind: Literal["loss_weighting"] = "loss_weighting"
    domain: float = Field(default=1.0, ge=0, le=10**6, allow_inf_nan=False)
    """Factor of the loss of domain tokens."""
    replay: float = Field(default=2.0, ge=0, le=10**6, allow_inf_nan=False)
    """Factor of the loss of replay tokens."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.domain == self.replay:
            raise ValueError(
                "replay: equals domain, so no token counts more than another; change one of them"
            )
        return self

    def problems(self, spec: "RunSpec", before: Sequence[str]) -> Iterator[str]:  # noqa: ARG002
        """See RemedySettings."""
        if spec.mixture.replay_ratio == 0:
            yield "there is no replay to weigh against the domain; raise mixture.replay_ratio"


class EasySamples(RemedySettings):
    """FLOW (Sanyal et al., 2025): documents that the base finds easy count more, hard ones pull less at what it knows."""

    reads_outputs: ClassVar[bool] = True

    kind: Literal["easy_samples"] = "easy_samples"
    temperature: float | None = Field(default=None, gt=0, le=10**6, allow_inf_nan=False)
    """The paper's tau in nats per token: weights are exp(-loss of the base / tau); by default the documents' median loss,
    as in the paper."""


class DomainAdversarial(RemedySettings):
    """Domain-adversarial training (Ganin et al., 2016): the features that feed the task's output layer are kept from telling
    domain from replay rows."""

    reads_outputs: ClassVar[bool] = True
    objectives: ClassVar[str | None] = "one_label"
    not_with: ClassVar[Mapping[str, str]] = {"freezes_body": "trains nothing below the task's output layer"}

    kind: Literal["domain_adversarial"] = "domain_adversarial"
    strength: float = Field(default=1.0, ge=0, le=10**9, allow_inf_nan=False)
    """The paper's lambda at the end of training: factor of the discriminator's gradient, which reaches the body turned
    round. At 0 the discriminator only watches."""
    gamma: float = Field(default=10.0, gt=0, le=10**6, allow_inf_nan=False)
    """How soon it grows: the factor is strength x (2 / (1 + exp(-gamma p)) - 1), p the share of training that is done."""
    hidden_size: int = Field(default=100, ge=1, le=65_536)
    """Units of the discriminator's hidden layer; 100 as the paper has it for digits."""

    def problems(self, spec: "RunSpec", before: Sequence[str]) -> Iterator[str]:  # noqa: ARG002
        """See RemedySettings."""
        if spec.mixture.replay_ratio == 0:
            yield "there is no replay to tell from the domain; raise mixture.replay_ratio"


class SelfReplay(RemedySettings):
    """Self-synthesised rehearsal (Huang et al., 2024): the base writes replay text before training, for those who have
    no general corpus."""

    writes_text: ClassVar[bool] = True

    kind: Literal["self_replay"] = "self_replay"
    tokens: int = Field(default=50_000, ge=1, le=10**10)
    """Tokens that the base writes, before the filters."""
    temperature: float = Field(default=1.0, gt=0, le=10, allow_inf_nan=False)
    """Of the sampling; at 1 the text has the base's own distribution."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Sample from the likeliest tokens of this total probability."""
    max_new_tokens: int = Field(default=256, ge=1, le=2**20)
    """Longest text."""
    prompts: tuple[str, ...] = ()
    """Beginnings that are continued in turn; by default BOS, or a random token where the tokenizer has no BOS."""
    min_tokens: int = Field(default=16, ge=1, le=2**20)
    """Shorter texts are dropped."""
    min_distinct: float = Field(default=0.5, ge=0, le=1)
    """Texts in which a smaller share of the four-token phrases is different are dropped: they repeat themselves."""
    keep_ratio: float = Field(default=0.9, gt=0, le=1)
    """Share of the remaining texts that is kept: those of the least loss under the base."""
    contract: str = "general_text"
    """The contract that the text must keep, as any replay source."""
    weight: float = Field(default=1.0, gt=0, le=10**6, allow_inf_nan=False)
    """Share among the replay sources."""

    @property
    def contracts(self) -> tuple[str, ...]:
        return (self.contract,)

    def problems(self, spec: "RunSpec", before: Sequence[str]) -> Iterator[str]:  # noqa: ARG002
        """See RemedySettings."""
        if not spec.reads_replay:
            yield "nothing reads the text that self_replay writes; raise mixture.replay_ratio"


class StepScaling(RemedySettings):
    """Loss-aware step scaling: an optimizer step is smaller the further its batch's loss lies above what the base finds
    usual. The definition is our own."""

    objectives: ClassVar[str | None] = None

    kind: Literal["step_scaling"] = "step_scaling"
    power: float = Field(default=1.0, ge=0, le=100, allow_inf_nan=False)
    """Learning rates are multiplied by (target / loss of the batch) to this power, and by 1 at most."""
    target: float | None = Field(default=None, gt=0, le=10**9, allow_inf_nan=False)
    """Loss in nats per label token up to which steps are whole; by default the base's mean loss on general text."""
    general_tokens: int = Field(default=20_000, ge=1, le=10**10)
    """Label tokens of replay text that the base's loss is measured on."""

    @property
    def general_sample(self) -> int:
        return self.general_tokens if self.target is None else 0

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (
            self.target is not None
            and self.general_tokens != type(self).model_fields["general_tokens"].default
        ):
            raise ValueError("target: is given, so general_tokens would do nothing; remove one of them")
        return self

    def problems(self, spec: "RunSpec", before: Sequence[str]) -> Iterator[str]:  # noqa: ARG002
        """See RemedySettings."""
        if self.target is None and not spec.objective.learns_text:
            yield (
                f"with {spec.objective.kind} the base's loss on general text is of another kind than that of a"
                " batch; set target (nats per label)"
            )


Remedy = Annotated[
    Ewc
    | Distillation
    | WeightAveraging
    | Ema
    | LossWeighting
    | EasySamples
    | DomainAdversarial
    | SelfReplay
    | StepScaling,
    Field(discriminator="kind"),
]
