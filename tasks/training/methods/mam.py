"""MAM adapter: Towards a Unified View of Parameter-Efficient Transfer Learning (He et al., 2022).

https://arxiv.org/abs/2110.04366, section 4.6: a short prefix (l = 30) in attention and a scaled parallel adapter
(r = 512 where d = 1024, s = 4) beside the feed-forward network. While it trains, the prefix is made by a small network
(Li and Liang, 2021, section 4.3); what is deployed is the prefix itself.

Training does not start at exactly the base: a prefix takes part of the attention, whatever its values are.
"""

from pathlib import Path
from typing import Any

from schemas.spec.methods.adapters import Mam
from tasks.training.methods import adapters
from tasks.training.methods.base import TrainingContext, Tuned
from tasks.training.methods.parts.insertion import Modules
from tasks.training.methods.parts.prefixes import PrefixTuned, prefixes
from tasks.training.methods.parts.structure import Architecture


def build(architecture: Architecture, settings: Mam, folder: Path | None) -> Modules:
    """Prefixes (made by a network in a training, plain ones for a folder) and parallel adapters.

    Raises:
        UserError: an attention is not transformers' own.
    """
    ahead = prefixes(architecture, settings.prefix_length, None if folder else settings.prefix_mlp_size)
    return {**ahead, **adapters.build(architecture, settings)}


def attach(model: Any, settings: Mam, context: TrainingContext) -> Tuned:
    """Insert prefixes and adapters, ready to train.

    Raises:
        UserError: the model cannot be read.
    """
    return PrefixTuned(model, settings, build, context.head).begin()


def load(model: Any, folder: Path, settings: Mam) -> Tuned:
    """Insert saved prefixes and adapters.

    Raises:
        UserError: they do not fit the model.
    """
    return PrefixTuned(model, settings, build).load(folder)
