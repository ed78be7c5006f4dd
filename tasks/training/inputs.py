"""What training reads, the step that is named by it, and its batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.spec.run import RunSpec
from tasks.data.plan.plan import load_plan
from tasks.data.tokens.prompts import Frame
from tasks.data.tokens.token_files import TokenPart
from tasks.data.tokens.tokenizer import SpecialIds
from tasks.storage.steps import Step
from tasks.training.models.heads import HeadInputs


@dataclass(frozen=True)
class TrainingInputs:
    """Everything training reads."""

    base: Path
    reference: str
    """What an adapter's configuration names its base by."""
    plan: Step
    sources: Sequence[Sequence[TokenPart]]
    special: SpecialIds
    head: HeadInputs | None = None
    """None for language modelling."""
    frame: Frame | None = None
    """What stands around prompts, if there are any: deployed with the model."""


def open_dataset(spec: RunSpec, inputs: TrainingInputs, numbered: bool = False) -> tuple[Any, Any]:
    """The plan's sequences, packed or (where method or head need it) apart, and what collates them.

    `numbered`: batches say from which place of the plan each position is, as remedies need it that look at outputs.
    """
    from tasks.training.batches.packed import PackedSequences, SeparateDocuments, collate, collate_apart

    pieces, sequences = load_plan(inputs.plan)
    if inputs.head is not None:
        from tasks.training.batches.labelled import LabelledDocuments, collate_labelled

        of_words = inputs.head.head.kind == "token_classification"
        labelled = LabelledDocuments(
            pieces, sequences, inputs.sources, inputs.head.labels, inputs.special, of_words, numbered
        )
        return labelled, collate_labelled
    kind, together = (PackedSequences, collate) if spec.method.packs else (SeparateDocuments, collate_apart)
    return kind(
        pieces, sequences, inputs.sources, spec.training.sequence_length, inputs.special.pad, numbered
    ), together
