"""The base class of every tuning method's settings."""

from typing import ClassVar

from schemas.base import Schema


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

    kind: str

    @property
    def has_task_modules(self) -> bool:
        """Whether each of several tasks has modules of its own, which the others do not use."""
        return False

    def folders(self) -> tuple[str, ...]:
        """Models that training reads besides the base; what they hold is part of what the training is named by."""
        return ()
