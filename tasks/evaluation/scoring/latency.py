"""How long a forward pass takes: of the base, of what is deployed beside it, and merged."""

import time
from pathlib import Path
from typing import Any

from schemas.results.counts import Latency
from tasks.data.model.folder import is_tuned, model_sha256
from tasks.storage.code import code_version
from tasks.storage.steps import StepPlan, run_step
from tasks.training.device import find_device
from tasks.training.models.heads import head_of
from tasks.training.models.load import load_model, load_tuned, load_with_head

TOKENS = 64
REPEATS = 40
WARM_UP = 0.5
"""Seconds of passes that do not count; at least one does not."""
LONG_ENOUGH = 5.0
"""Seconds after which three passes of a large model must do."""


def measure_latency(state: Path, base: Path, saved: Path, vocabulary: int) -> Latency:
    """Milliseconds of each, one after the other on this device; measured once for the same models."""
    device = find_device()
    plan = StepPlan(
        root=state,
        name="latency",
        inputs={"base": model_sha256(base), "model": model_sha256(saved)},
        settings=[device.name, TOKENS],
        code=code_version(__name__),
    )

    dtype, head = device.frozen_dtype, head_of(saved)

    def timed(model: Any) -> tuple[float, int]:
        positions = getattr(model.config, "max_position_embeddings", None) or 2 * TOKENS
        tokens = min(TOKENS, positions // 2)  # a method may put tokens of its own in front
        return milliseconds(model.to(device.name), vocabulary, device.name, tokens), tokens

    def work(_folder: Path) -> dict[str, Any]:
        if not is_tuned(saved):  # whole weights of the base's architecture: one time stands for both
            whole, tokens = timed(load_model(saved, dtype))
            return Latency(base=whole, tuned=whole, merged=whole, tokens=tokens).model_dump()
        before, tokens = timed(
            load_model(base, dtype) if head is None else load_with_head(base, head, dtype, 0).model
        )
        tuned = load_tuned(saved, dtype)
        beside, _ = timed(tuned.model)
        merged = timed(tuned.merge())[0] if tuned.merges else None
        return Latency(base=before, tuned=beside, merged=merged, tokens=tokens).model_dump()

    return Latency.model_validate(run_step(plan, work).facts)


def milliseconds(model: Any, vocabulary: int, device: str, tokens: int) -> float:
    """Least time of a forward pass over one sequence, once the machine is warm: whatever else runs only adds to it."""
    import torch

    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, vocabulary, (1, tokens), generator=generator).to(device)
    mask = torch.ones_like(ids)
    times: list[float] = []
    model.eval()
    begun = time.perf_counter()
    with torch.inference_mode():
        while len(times) < REPEATS and not (len(times) >= 3 and sum(times) > LONG_ENOUGH):
            started = time.perf_counter()
            model(input_ids=ids, attention_mask=mask)
            if device == "cuda":
                torch.cuda.synchronize()
            if started - begun >= WARM_UP:
                times.append(time.perf_counter() - started)
    return 1000 * min(times)
