"""What a training reads, from the steps before it: one place for the run itself, proxies, probes and references."""

from schemas.spec.run import RunSpec
from tasks.data.prepare import Prepared, Tokenized
from tasks.training.inputs import TrainingInputs
from tasks.training.models.base_model import BaseModel
from tasks.training.models.heads import Head, HeadInputs


def training_inputs(
    spec: RunSpec, base: BaseModel, prepared: Prepared, tokenized: Tokenized
) -> TrainingInputs:
    """What the training of this run reads."""
    return TrainingInputs(
        base.folder,
        base.reference,
        tokenized.plan,
        tokenized.training_tokens(prepared),
        tokenized.special,
        head_inputs(spec, prepared, tokenized),
        tokenized.frame,
    )


def head_inputs(spec: RunSpec, prepared: Prepared, tokenized: Tokenized) -> HeadInputs | None:
    """The head that is trained, and the labels beside the tokens; None for language modelling."""
    labels = tokenized.labels
    if labels is None:
        return None
    head = Head(spec.head_kind, labels.names, tokenized.special.pad, labels.tasks)
    of_rows = tokenized.training_labels(prepared)
    return HeadInputs(head, of_rows, labels.step.key, spec.objective.task_weights)
