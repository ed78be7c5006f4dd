"""How well a model predicts documents."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


def mean_loss(model: Any, documents: Sequence[npt.NDArray[Any]]) -> float:
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
