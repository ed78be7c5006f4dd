"""How long a forward pass takes."""

import statistics
import time
from typing import Any

TOKENS = 64
REPEATS = 15


def milliseconds(model: Any, vocabulary: int, device: str) -> float:
    """Median time of a forward pass over one sequence of 64 tokens, after two that warm up."""
    import torch

    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, vocabulary, (1, TOKENS), generator=generator).to(device)
    mask = torch.ones_like(ids)
    times = []
    model.eval()
    with torch.inference_mode():
        for repeat in range(REPEATS + 2):
            started = time.perf_counter()
            model(input_ids=ids, attention_mask=mask)
            if device == "cuda":
                torch.cuda.synchronize()
            if repeat >= 2:
                times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times)
