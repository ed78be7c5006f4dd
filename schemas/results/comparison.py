"""A fair comparison of tuning methods: what is compared, what every method gets, and what was found."""

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from schemas.base import Schema
from schemas.results.counts import Latency, Parameters
from schemas.results.scores import Scores
from schemas.spec.methods.union import Method

Seed = Annotated[int, Field(ge=0, lt=2**32)]
Rate = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]


def _kind_of_documents(value: Any) -> str:
    return "number" if isinstance(value, int | float) else "all"


Documents = Annotated[
    Annotated[int, Field(ge=1, le=10**12), Tag("number")] | Annotated[Literal["all"], Tag("all")],
    Discriminator(_kind_of_documents),
]


class Comparison(Schema):
    """Every method x base x number of documents, over the same seeds, with one budget and an equally long search."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")
    """Name of the results' folder."""
    spec: str = Field(min_length=1)
    """Run specification that holds everything that is the same: data, mixture, budget, evaluation."""
    overrides: tuple[str, ...] = ()
    """Values of that specification to replace, `key.path=value` each."""
    methods: tuple[Method, ...] = Field(min_length=1)
    """The methods, each with its settings."""
    reference: str | None = None
    """Kind of one of the methods: every other one is also compared with it, such as with `head_only`."""
    bases: tuple[str, ...] = ()
    """Models to tune, such as one family in several sizes; by default the specification's."""
    documents: tuple[Documents, ...] = ("all",)
    """Training documents of the domain: all, or so many chosen by the seed."""
    seeds: tuple[Seed, ...] = Field(default=(1, 2, 3), min_length=1)
    """Each seed splits, draws and initialises anew; methods share them, so they are compared in pairs."""
    learning_rates: tuple[Rate, ...] = Field(min_length=1)
    """Every method tries all of these once, with `search_seed`, and keeps the best: the same search for each."""
    further_rates: int = Field(default=2, ge=0, le=10)
    """Where the best rate is the lowest or the highest, so many more are tried beyond it, one after another while they are
    better: as far from the last as that is from the one before. Where lowest and highest are level, beyond both."""
    search_seed: int = Field(default=0, ge=0, lt=2**32)
    """Not one of `seeds`, so that no rate is chosen on what is reported."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Of each one-sided bound."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.search_seed in self.seeds and len(self.learning_rates) > 1:
            raise ValueError(
                "search_seed: must not be one of seeds, or rates would be chosen on what is reported; take another"
            )
        for name in ("methods", "bases", "documents", "seeds", "learning_rates"):
            values = getattr(self, name)
            if len(set(map(str, values))) < len(values):
                raise ValueError(f"{name}: an entry occurs twice; remove one")
        kinds: list[str] = [method.kind for method in self.methods]
        if self.reference is not None and kinds.count(self.reference) != 1:
            raise ValueError(
                f"reference: '{self.reference}' must be the kind of exactly one of methods; add it there, or remove reference"
            )
        return self


class Cell(Schema):
    """One training of a comparison."""

    method: int
    """Index into the comparison's methods."""
    base: str
    documents: int | Literal["all"]
    learning_rate: float
    seed: int


class Trained(Schema):
    """What one training gave, or why it was refused."""

    refused: str | None = None
    """The error, where the method cannot work here."""
    scores: Scores | None = None
    parameters: Parameters | None = None
    seconds: float = 0.0
    """Of training."""
    domain_tokens: int = 0
    replay_tokens: int = 0
    """Label tokens trained on."""
    peak_memory_bytes: int = 0
    latency: Latency | None = None

    @property
    def label_tokens(self) -> int:
        """The budget, the same for all methods of one seed."""
        return self.domain_tokens + self.replay_tokens


class CellResult(Trained):
    """What the training of one cell gave."""

    cell: Cell


class Estimate(Schema):
    """A mean over seeds with a one-sided bound on each side."""

    estimate: float
    low: float
    high: float


class Row(Schema):
    """What a comparison found of one method on one base with so many documents."""

    method: int
    label: str
    """The method's kind, and the settings that tell it from others of its kind."""
    base: str
    documents: int | Literal["all"]
    unit: str
    refused: str | None = None
    """Why there is no result."""
    learning_rate: float = 0.0
    rate_at_edge: bool = False
    """The best rate was the smallest or largest tried: a wider search may favour this method."""
    seeds: int = 0
    value: float = 0.0
    """Mean score of the domain suite after tuning."""
    gain: Estimate | None = None
    """How much better than the base, in the suite's unit."""
    forgetting: dict[str, Estimate] = Field(default_factory=dict)
    """General suite -> how much worse than the base."""
    behind_best: Estimate | None = None
    """How much worse than the best method of the same base and documents, paired by seed and item."""
    ahead_of_reference: Estimate | None = None
    """How much better than the comparison's reference method, paired by seed and item."""
    level_with_best: bool = False
    """The bound of that difference includes zero: not told apart from the best."""
    parameters: Parameters | None = None
    label_tokens: float = 0.0
    seconds: float = 0.0
    peak_memory_bytes: float = 0.0
    latency_tuned: float = 0.0
    """Forward pass with the method beside the base, as a multiple of the base's."""
    latency_merged: float | None = None
