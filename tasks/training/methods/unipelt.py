"""UniPELT: A Unified Framework for Parameter-Efficient Language Model Tuning (Mao et al., 2022).

https://arxiv.org/abs/2110.07577: LoRA on queries and values, a prefix in attention, and Pfeiffer's adapter behind the
feed-forward network, each with a learned gate in each block.

Deviation: the paper averages a gate over the sequence, which would let a causal model see the future and packed
documents each other. Here each token has gates of its own; the prefix's multiplies its keys and values as there.

Training does not start at exactly the base: a prefix takes part of the attention, whatever its values are.
"""

import re
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from schemas.errors import UserError
from schemas.spec.methods.adapters import Unipelt
from tasks.training.methods.base import TrainingContext, Tuned
from tasks.training.methods.parts.insertion import Inserted, Modules, behind
from tasks.training.methods.parts.prefixes import PrefixTuned, prefixes
from tasks.training.methods.parts.structure import Architecture, Sublayer, is_linear

NAMES = {"queries": re.compile(r"^(w?q|query)(_|$)"), "values": re.compile(r"^(w?v|value)(_|$)")}
LOOKED_AT = 4
"""Micro-batches over which the gates are averaged for the report."""


def build(architecture: Architecture, settings: Unipelt, folder: Path | None) -> Modules:
    """All parts for every block.

    Raises:
        UserError: queries or values have no layer of their own, or an attention is not transformers' own.
    """
    from tasks.training.methods.parts import gated
    from tasks.training.methods.parts.bottleneck import size_of

    width, size = architecture.width, size_of(settings, architecture.width)
    projections = [_projections(architecture, number) for number in range(len(architecture.blocks))]
    modules = dict(
        prefixes(
            architecture,
            settings.prefix_length,
            None if folder else settings.prefix_mlp_size,
            lambda prefix: gated.GatedPrefix(prefix, width),
        )
    )
    for number, block in enumerate(architecture.blocks):
        gate = gated.Gate(width)
        modules[f"block_{number}_lora_gate"] = Inserted(gate)
        for name, (layer, out) in projections[number].items():
            lora = gated.GatedLora(width, out, settings.r, settings.alpha, gate)
            modules[f"block_{number}_lora_{name}"] = Inserted(lora, behind(Sublayer(layer, layer)), number)
        adapter = gated.GatedBottleneck(width, size, settings.activation, settings.dropout)
        place = behind(block.feed_forward)
        modules[f"block_{number}_feed_forward"] = Inserted(adapter, place, number)
    return modules


def _projections(architecture: Architecture, number: int) -> dict[str, tuple[Any, int]]:
    """The layers that make queries and values of the block's input, with their output sizes."""
    found: dict[str, tuple[Any, int]] = {}
    for name, module in architecture.blocks[number].attention.entry.named_modules():
        for what, pattern in NAMES.items():
            if is_linear(module) and pattern.match(name.rpartition(".")[2]):
                found[what] = (module, module.out_features)
    if found.keys() != NAMES.keys():
        raise UserError(
            f"block {number} of {type(architecture.model).__name__} has no linear layers named like q or query and v or value"
            " of its attention: LoRA's part has no place",
            "method.kind",
            "choose method mam or an adapter, which need none, or a model with separate layers (Llama, OPT, BERT)",
        )
    return found


class GatedTuned(PrefixTuned):
    """Reports how far its gates are open."""

    batches: Callable[[], Iterator[dict[str, Any]]] | None = None
    _opened: dict[str, float]

    def finish(self) -> None:
        """Make the prefixes plain, and look at the gates on the run's first micro-batches."""
        super().finish()
        self._opened = self._look() if self.batches else {}

    def facts(self) -> dict[str, Any]:
        """Mean over tokens of each gate."""
        return {"gates": self._opened}

    def _look(self) -> dict[str, float]:
        import torch

        from tasks.training.methods.parts.gated import Gate

        assert self.batches is not None
        sums: dict[str, list[float]] = {}

        def note(name: str) -> Any:
            return lambda _module, _args, output: sums.setdefault(name, []).append(float(output.mean()))

        handles = [
            module.register_forward_hook(note(name))
            for name, module in self.modules().named_modules()
            if isinstance(module, Gate)
        ]
        was_training = self.model.training
        self.model.train(False)
        try:
            with torch.no_grad():
                for batch in islice(self.batches(), LOOKED_AT):
                    inputs = {k: t.to(self.model.device) for k, t in batch.items() if k != "labels"}
                    self.model(**inputs, use_cache=False)
        finally:
            self.model.train(was_training)
            for handle in handles:
                handle.remove()
        return {name: round(sum(means) / len(means), 6) for name, means in sorted(sums.items())}


def attach(model: Any, settings: Unipelt, context: TrainingContext) -> Tuned:
    """Insert all parts, ready to train.

    Raises:
        UserError: the model cannot be read, or has no separate queries and values.
    """
    tuned = GatedTuned(model, settings, build, context.head)
    tuned.batches = context.batches
    return tuned.begin()


def load(model: Any, folder: Path, settings: Unipelt) -> Tuned:
    """Insert saved parts.

    Raises:
        UserError: they do not fit the model.
    """
    return GatedTuned(model, settings, build).load(folder)
