"""Prefixes as inserted modules: made by a network while they train, plain afterwards."""

from collections.abc import Callable
from typing import Any

from tasks.training.methods.base import TRAINED
from tasks.training.methods.parts.insertion import Inserted, InsertedTuned, Modules
from tasks.training.methods.parts.structure import Architecture

TRUNK = "prefix_trunk"


def prefixes(
    architecture: Architecture, length: int, mlp_size: int | None, dress: Callable[[Any], Any] | None = None
) -> Modules:
    """A prefix for each block's attention; `dress` puts something around it (a gate).

    Raises:
        UserError: an attention is not transformers' own.
    """
    from tasks.training.methods.parts.prefix_attention import (
        MadePrefix,
        Prefix,
        Trunk,
        find_attentions,
        within,
    )

    trunk = Trunk(length, architecture.width, mlp_size) if mlp_size else None
    modules = {TRUNK: Inserted(trunk)} if trunk else {}
    for number, attention in enumerate(find_attentions(architecture)):
        prefix = MadePrefix(attention, trunk) if trunk else Prefix(attention, length)
        module = dress(prefix) if dress else prefix
        modules[f"block_{number}_prefix"] = Inserted(module, within(attention), number)
    return modules


class PrefixTuned(InsertedTuned):
    """Modules among which are prefixes."""

    def finish(self) -> None:
        """Replace prefixes that a network makes by what it makes."""
        from tasks.training.methods.parts.prefix_attention import MadePrefix

        made = dict(self.modules().items())
        if TRUNK not in made:
            return
        plain = self.build(
            self.architecture, self.settings.model_copy(update={"prefix_mlp_size": None}), None
        )
        for key, inserted in plain.items():
            tensors = {
                name: tensor
                for name, tensor in made[key].state_dict().items()
                if name in inserted.module.state_dict()
            }
            for name, part in made[key].named_modules():
                if isinstance(part, MadePrefix):
                    ends = [f"{name}.{end}".lstrip(".") for end in ("keys", "values")]
                    tensors |= dict(zip(ends, part.tensors(), strict=True))
            inserted.module.load_state_dict({name: tensor.detach() for name, tensor in tensors.items()})
        self.remove(TRAINED)
        self.insert(TRAINED, plain)
        self.activate(TRAINED)
        self.train()
