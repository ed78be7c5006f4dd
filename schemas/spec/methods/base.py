"""The base class of every tuning method's settings."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from schemas.base import Schema

if TYPE_CHECKING:
    from schemas.spec.run import RunSpec

Update = Literal["own_weights", "sparse", "low_rank", "other"]
"""What a method's change of the base is: its own weights, a few numbers of them, or a product of two matrices a module."""


class MethodSettings(Schema):
    """What is known of a method before any model is loaded."""

    changes_base: ClassVar[bool] = False
    """The base's own weights move while training, so they are kept in fp32."""
    replaces_base: ClassVar[bool] = False
    """What is deployed are whole weights: the tuned model stands without its base."""
    packs: ClassVar[bool] = True
    """Documents that share a packed sequence stay apart; otherwise each trains as a padded row of its own."""
    checkpoints_activations: ClassVar[bool] = True
    """Works with training.gradient_checkpointing."""
    merges: ClassVar[bool] = True
    """Can become plain weights of the base's architecture."""
    needs_task_head: ClassVar[bool] = False
    """Trains nothing in a language model: only models with a new task head have something to train."""

    update: ClassVar[Update] = "other"
    """What its change of the base is; remedies that reckon with it ask."""
    from_scratch: ClassVar[bool] = False
    """Can train random weights."""
    changes_what_trains: ClassVar[bool] = False
    """What trains changes on the way."""
    freezes_body: ClassVar[bool] = False
    """Trains nothing below the task's output layer."""

    kind: str

    @property
    def odd_update(self) -> str | None:
        """Where `update` is not plainly so and zero at the start: what to set to make it so."""
        return None

    def problems(self, spec: "RunSpec") -> Iterator[str]:  # noqa: ARG002
        """What in the rest of a specification contradicts it, one `key: what; fix` each."""
        yield from ()

    @property
    def has_task_modules(self) -> bool:
        """Whether each of several tasks has modules of its own, which the others do not use."""
        return False

    def folders(self) -> tuple[str, ...]:
        """Models that training reads besides the base; what they hold is part of what the training is named by."""
        return ()
