"""Where a new head starts: at the frequencies of the labels it is trained on.

A head that starts at equal probabilities first pushes the whole body towards the most frequent label, and a fast method
may never come back from that: every text then looks alike. With the frequencies as its start nothing is left to learn of
them (Lin et al., 2017, https://arxiv.org/abs/1708.02002, section 3.3, for detectors). Outputs without a bias stay as they are.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.spec.run import RunSpec
from tasks.data.labels.model_head import TaskOutputs
from tasks.training.inputs import TrainingInputs, open_dataset
from tasks.training.models.heads import WithHead, output_layers
from tasks.training.models.load import load_with_head


def load_at_start(
    spec: RunSpec, inputs: TrainingInputs, dtype: Any, settings: Mapping[str, Any] | None = None
) -> WithHead:
    """The base with the head that this training begins with.

    Raises:
        UserError: the weights do not fit, or the base is an adapter that no head can be put on.
    """
    import torch

    assert inputs.head is not None
    head = inputs.head.head
    loaded = load_with_head(inputs.base, head, dtype, spec.training.seed, settings)
    bias = output_layers(loaded.model)[-1][1].bias
    if loaded.fresh and bias is not None:
        counts = open_dataset(spec, inputs)[0].label_counts(len(head.names))
        with torch.no_grad():
            bias.copy_(torch.from_numpy(log_frequencies(counts, head.tasks)))
    return loaded


def log_frequencies(
    counts: npt.NDArray[np.int64], tasks: Sequence[TaskOutputs] = ()
) -> npt.NDArray[np.float64]:
    """ln((n + 1) / sum(n + 1)) of each output, (outputs,), among those of its task: its probability before anything is read."""
    parts = [slice(task.start, task.stop) for task in tasks] or [slice(None)]
    known = counts + 1.0
    return np.concatenate([np.log(known[part] / known[part].sum()) for part in parts])
