"""How well a model predicts documents."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.data.plan.mix import Pieces
from tasks.storage.code import code_version
from tasks.storage.steps import Step, StepPlan, run_step
from tasks.training.remedies.base import RemedyContext
from tasks.training.remedies.parts.general import documents_sha256
from tasks.training.threads import on_threads

Documents = Sequence[npt.NDArray[Any]]
"""Token ids, each (length,)."""


def measure_base(
    context: RemedyContext,
    name: str,
    module: str,
    pieces: Pieces,
    work: Callable[[Path, Any, Documents], dict[str, Any]],
) -> Step:
    """The step `name`, in which the loss of some pieces under the base is measured.

    `work` takes the step's folder, the base and the documents, and returns the step's facts; it stands in `module`.
    """
    from tasks.data.model.folder import model_sha256
    from tasks.training.models.load import load_base

    base, documents = context.inputs.base, context.ids_of(pieces)
    plan = StepPlan(
        root=context.root,
        name=name,
        inputs={"base": model_sha256(base), "documents": documents_sha256(documents)},
        settings=None,
        code=code_version(module),
    )
    return run_step(plan, on_threads(plan, lambda folder: work(folder, load_base(base), documents)))


def mean_loss(model: Any, documents: Documents) -> float:
    """Nats per label token, documents one by one."""
    import torch
    from torch.nn.functional import cross_entropy

    from tasks.training.device import find_device

    device = find_device()
    model.to(device.name).eval()
    loss, tokens = 0.0, 0
    for ids in documents:
        batch = torch.from_numpy(ids.astype(np.int64))[None].to(device.name)
        with torch.inference_mode(), torch.autocast(device.name, torch.bfloat16, enabled=device.autocast):
            logits = model(input_ids=batch, use_cache=False).logits[0, :-1]
        loss += float(cross_entropy(logits.float(), batch[0, 1:], reduction="sum"))
        tokens += len(ids) - 1
    return loss / tokens
