"""How long a forward pass takes: of the base, of what is deployed beside it, and merged."""

import statistics
import time
from pathlib import Path
from typing import Any

from schemas.counts import Latency
from tasks.storage.hashing import code_version
from tasks.storage.steps import StepPlan, run_step
from tasks.training.device import find_device
from tasks.training.heads import head_of, load_with_head
from tasks.training.models import load_model, model_sha256
from tasks.training.tuned import is_tuned, load_tuned

TOKENS = 64
REPEATS = 15
LONG_ENOUGH = 5.0
"""Seconds after which three passes of a large model must do."""
CODE = ("tasks/evaluation/latency.py", "tasks/training")


def measure_latency(state: Path, base: Path, saved: Path, vocabulary: int) -> Latency:
    """Median milliseconds of each, one after the other on this device; measured once for the same models."""
    device = find_device()
    plan = StepPlan(
        root=state,
        name="latency",
        inputs={"base": model_sha256(base), "model": model_sha256(saved)},
        settings=[device.name, TOKENS],
        code=code_version(CODE, ("torch", "transformers", "peft")),
    )

    def work(_folder: Path) -> dict[str, Any]:
        dtype, head = device.frozen_dtype, head_of(saved)
        model = load_model(base, dtype) if head is None else load_with_head(base, head, dtype, 0).model
        positions = getattr(model.config, "max_position_embeddings", None) or 2 * TOKENS
        tokens = min(TOKENS, positions // 2)  # a method may put tokens of its own in front

        def timed(model: Any) -> float:
            return milliseconds(model.to(device.name), vocabulary, device.name, tokens)

        before = timed(model)
        if not is_tuned(saved):
            whole = timed(load_model(saved, dtype))
            return Latency(base=before, tuned=whole, merged=whole, tokens=tokens).model_dump()
        tuned = load_tuned(saved, dtype)
        beside = timed(tuned.model)
        merged = timed(tuned.merge()) if tuned.merges else None
        return Latency(base=before, tuned=beside, merged=merged, tokens=tokens).model_dump()

    return Latency.model_validate(run_step(plan, work).facts)


def milliseconds(model: Any, vocabulary: int, device: str, tokens: int = TOKENS) -> float:
    """Median time of a forward pass over one sequence, after two that warm up."""
    import torch

    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, vocabulary, (1, tokens), generator=generator).to(device)
    mask = torch.ones_like(ids)
    times: list[float] = []
    model.eval()
    with torch.inference_mode():
        for repeat in range(REPEATS + 2):
            started = time.perf_counter()
            model(input_ids=ids, attention_mask=mask)
            if device == "cuda":
                torch.cuda.synchronize()
            if repeat >= 2:
                times.append(time.perf_counter() - started)
            if len(times) >= 3 and sum(times) > LONG_ENOUGH:
                break
    return 1000 * statistics.median(times)
