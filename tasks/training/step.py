"""The training step: what it is named by."""

from dataclasses import asdict
from pathlib import Path

from schemas.spec.run import RunSpec
from tasks.data.model.folder import model_sha256
from tasks.storage.code import code_version
from tasks.storage.hashing import sha256_value
from tasks.storage.steps import StepPlan
from tasks.training.inputs import TrainingInputs
from tasks.training.models.tuned_files import find_tuned
from tasks.training.remedies.applied import files_read

NOT_TRAINED_ON = {"tokens", "epochs", "steps"}  # the plan has them


def training_plan(root: Path, spec: RunSpec, inputs: TrainingInputs) -> StepPlan:
    """Name the training step."""
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
