"""What a run would do, before it does it; what cannot work is refused here."""

import time
from pathlib import Path
from typing import Any

from flows.growing.due import due
from flows.growing.effective import effective, laid_out
from flows.growing.reference import wants_reference
from flows.progress.terminal import say, say_json
from flows.progress.watch import Console, Watch
from flows.replay.proxies import cost_of_proxies
from schemas.spec.run import RunSpec
from schemas.visible import visible
from tasks.data.prepare import Prepared, Tokenized, prepare, tokenize
from tasks.evaluation.suites.build import build_suites
from tasks.evaluation.suites.items import Suite
from tasks.release.run.run_folder import RunFolder
from tasks.storage.workers import map_in_processes, one_pool
from tasks.training.attach import attach
from tasks.training.batches.micro_batch import micro_batch_tokens
from tasks.training.inputs import TrainingInputs, open_dataset
from tasks.training.models.base_model import provide_base
from tasks.training.models.counts import numbers
from tasks.training.training_inputs import training_inputs

MEASURED_STEPS = 3


def show_plan(spec: RunSpec, state: Path, as_json: bool) -> None:
    """Print the plan."""
    with due(spec, state) as now:
        facts = make_plan(now, state, Console())
    if as_json:
        say_json(facts)
        return
    for name, value in facts.items():
        say(f"{name:28} {value:,}" if isinstance(value, int) else f"{name:28} {visible(value)}")


def make_plan(spec: RunSpec, state: Path, watch: Watch) -> dict[str, Any]:
    """Rows, tokens, steps, parameters, memory by part and time; the data stages are really done (and kept)."""
    run = RunFolder.open(state, spec)
    spec = effective(spec, state, run.champion_folder, watch)
    with watch.stage("data"), one_pool(map_in_processes) as pool:
        prepared = prepare(state, spec, pool, watch.note)
        base = provide_base(state, spec, prepared, run.champion_folder)
        laid, budget = laid_out(spec), spec.mixture.forgetting_budget
        tokenized = tokenize(state, laid, prepared, base.folder, pool, watch.note)
        suites = build_suites(spec, prepared, tokenized, turn=0)
    total, mixture = prepared.ledger.total, tokenized.mixture
    facts: dict[str, Any] = {
        "run": run.id,
        "rows read": total.read,
        "rows trained on": prepared.ledger.training_rows,
        "rows scored": prepared.ledger.scored_rows,
        "rows quarantined": total.quarantined,
        "rows duplicate": total.duplicate,
        "rows leaked": total.leaked,
        "rows held out": total.held_out,
        **_instruction_facts(prepared, tokenized, suites),
        "domain tokens": mixture.domain_tokens,
        "replay tokens": mixture.replay_tokens,
        "replay ratio": f"{mixture.achieved_ratio:.4f} (asked {mixture.requested_ratio})"
        if budget is None
        else f"chosen in the run, for a budget of {budget:g} nats per token; tokens and steps are those without replay",
        "sequences": mixture.sequences,
        "steps": mixture.steps,
        "suites": ", ".join(f"{s.name} ({len(s.items)} documents)" for s in suites),
    }
    if budget is not None:
        facts["proxies"] = cost_of_proxies(spec, mixture.domain_tokens)
    with watch.stage("measure one step on this machine"):
        inputs = training_inputs(laid, base, prepared, tokenized)
        facts |= measure_step(laid, inputs, mixture.steps)
    if wants_reference(spec):
        facts["second training"] = "as long again, on this increment alone (increments.reference)"
    return facts


def _instruction_facts(prepared: Prepared, tokenized: Tokenized, suites: list[Suite]) -> dict[str, Any]:
    """How instructions are read, and what of them does not fit."""
    if tokenized.frame is None:
        return {}
    layouts = {
        f"layout of {s.source.path}": ", ".join(dict.fromkeys(s.layouts.values()))
        for s in prepared.sources
        if s.layouts
    }
    return {
        "template": tokenized.frame.template,
        **layouts,
        "prompts without room": tokenized.tokens.no_room + sum(suite.no_room for suite in suites),
    }


def measure_step(spec: RunSpec, inputs: TrainingInputs, steps: int) -> dict[str, Any]:
    """Run forward and backward on the first micro-batch: real time and real memory, nothing is updated."""
    import torch

    from tasks.training.device import find_device, peak_memory_bytes
    from tasks.training.loop.head_losses import loss_of

    training, device = spec.training, find_device()
    model = attach(spec, inputs, device).model.to(device.name).train()
    micro = micro_batch_tokens(spec)
    dataset, collate = open_dataset(spec, inputs)
    rows = min(len(dataset), micro // training.sequence_length)
    batch = {
        name: value.to(device.name) for name, value in collate([dataset[i] for i in range(rows)]).items()
    }
    head_loss = None if inputs.head is None else loss_of(inputs.head, dataset)
    for measured in range(MEASURED_STEPS + 1):
        if measured == 1:
            started = time.monotonic()
        with torch.autocast(device.name, torch.bfloat16, enabled=device.autocast):
            _loss_of_batch(model, batch, head_loss).backward()
        if device.name == "cuda":
            torch.cuda.synchronize()
    seconds = (time.monotonic() - started) / MEASURED_STEPS * training.batch_tokens / micro
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    gradients = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    mib = 2**20
    return {
        "parameters": sum(numbers(p) for p in model.parameters()),
        "parameters trained": trainable,
        "micro-batch": f"{micro} tokens, {training.batch_tokens // micro} a step",
        "memory of weights": f"{weights / mib:,.1f} MiB",
        "memory of gradients": f"{gradients / mib:,.1f} MiB",
        "memory of optimizer": f"{8 * trainable / mib:,.1f} MiB",
        "peak memory measured": f"{peak_memory_bytes(device) / mib:,.0f} MiB (one micro-batch, optimizer not yet counted)",
        "time of training": f"{seconds * steps:,.0f} s ({seconds:.2f} s a step, measured on {device.name})",
    }


def _loss_of_batch(model: Any, batch: dict[str, Any], head_loss: Any) -> Any:
    """The loss that the training itself takes: a model's own does not know of virtual tokens before labelled words."""
    if head_loss is None:
        return model(**batch, use_cache=False).loss
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    return head_loss(model(**inputs, use_cache=False), batch["labels"])
