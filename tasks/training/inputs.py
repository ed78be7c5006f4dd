"""What training reads, the step that is named by it, and its batches."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from schemas.run import RunSpec
from tasks.data.plan import load_plan
from tasks.data.prompts import Frame
from tasks.data.token_files import TokenPart
from tasks.data.tokenizer import SpecialIds
from tasks.storage.code import code_version
from tasks.storage.hashing import sha256_value
from tasks.storage.steps import Step, StepPlan
from tasks.training.heads import HeadInputs
from tasks.training.models import model_sha256
from tasks.training.tuned import find_tuned

NOT_TRAINED_ON = {"tokens", "epochs", "steps"}  # the plan has them


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


def training_plan(root: Path, spec: RunSpec, inputs: TrainingInputs) -> StepPlan:
    """Name the training step."""
    from tasks.training.remedies.applied import files_read

    models = {name: model_sha256(find_tuned(name)) for name in spec.method.folders()}
    return StepPlan(
        root=root,
        name="train",
        inputs={
            "plan": inputs.plan.key,
            "base": model_sha256(inputs.base),
            **(inputs.head.keys if inputs.head else {}),
            **({"frame": sha256_value(asdict(inputs.frame))} if inputs.frame else {}),
            **models,
            **files_read(spec, inputs.base),
        },
        settings=[
            spec.method.model_dump(mode="json"),
            None if spec.method.replaces_base else inputs.reference,
            spec.training.model_dump(exclude=NOT_TRAINED_ON),
            [remedy.model_dump(mode="json") for remedy in spec.remedies],
        ],
        code=code_version("tasks.training.train"),
    )


def open_dataset(spec: RunSpec, inputs: TrainingInputs, numbered: bool = False) -> tuple[Any, Any]:
    """The plan's sequences, packed or (where method or head need it) apart, and what collates them.

    `numbered`: batches say from which place of the plan each position is, as remedies need it that look at outputs.
    """
    from tasks.training.dataset import PackedSequences, SeparateDocuments, collate, collate_apart

    pieces, sequences = load_plan(inputs.plan)
    if inputs.head is not None:
        from tasks.training.labelled import LabelledDocuments, collate_labelled

        of_words = inputs.head.head.kind == "token_classification"
        labelled = LabelledDocuments(
            pieces, sequences, inputs.sources, inputs.head.labels, inputs.special, of_words, numbered
        )
        return labelled, collate_labelled
    kind, together = (PackedSequences, collate) if spec.method.packs else (SeparateDocuments, collate_apart)
    return kind(
        pieces, sequences, inputs.sources, spec.training.sequence_length, inputs.special.pad, numbered
    ), together
