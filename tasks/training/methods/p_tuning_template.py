"""P-Tuning: GPT Understands, Too (Liu et al., 2021, https://arxiv.org/abs/2103.10385), section 3.

Trained virtual tokens stand where a template says, in front of the text or after its first k tokens. While they train,
an encoder makes them (section 3.2); what is deployed are their embeddings.

Whoever calls the model sees the text alone: logits i are what it predicts for text token i + 1, read where that token
is predicted, which is the last virtual token if some stand between. So a loss counts the text's own tokens only.
"""

from pathlib import Path
from typing import Any

from schemas.errors import UserError
from schemas.spec.methods.adapters import PTuningTemplate
from tasks.training.methods.base import TRAINED, TrainingContext, Tuned
from tasks.training.methods.parts.insertion import Inserted, InsertedTuned, Modules
from tasks.training.methods.parts.structure import Architecture

VIRTUAL = "virtual_tokens"
ENCODER = "encoder"


def build(architecture: Architecture, settings: PTuningTemplate, folder: Path | None) -> Modules:
    """Virtual tokens: with an encoder in a training, plain for a folder."""
    from tasks.training.methods.parts.virtual_template import Encoder, VirtualTokens, around

    count = sum(number for _, number in settings.groups())
    encoder = None if folder else Encoder(count, architecture.width, settings.encoder)
    tokens = VirtualTokens(settings.groups(), architecture.width, encoder)
    modules = {VIRTUAL: Inserted(tokens, around(architecture.model))}
    return {**modules, ENCODER: Inserted(encoder)} if encoder else modules


class TemplateTuned(InsertedTuned):
    """Virtual tokens that an encoder makes while they train."""

    def finish(self) -> None:
        """Keep what the encoder makes now, and drop the encoder."""
        made = self.modules()[VIRTUAL].table().detach().clone()
        plain = self.build(self.architecture, self.settings, Path())
        self.remove(TRAINED)
        self.insert(TRAINED, plain)
        self.activate(TRAINED)
        self.train()
        self.modules()[VIRTUAL].embeddings.data.copy_(made)


def attach(model: Any, settings: PTuningTemplate, context: TrainingContext) -> Tuned:
    """Insert virtual tokens, ready to train.

    Raises:
        UserError: the model has a task head, or the texts with the virtual tokens exceed its context.
    """
    if context.head:
        fix = "choose another method for this objective (rootstock methods)"
        raise UserError("p_tuning_template is for language models, not for task heads", "method.kind", fix)
    count = sum(number for _, number in settings.groups())
    most = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if most is not None and context.sequence_length + count > most:
        raise UserError(
            f"sequences of {context.sequence_length} tokens and {count} virtual ones exceed the model's context of {most}",
            "method.template",
            f"set training.sequence_length to {most - count} or less, or use fewer virtual tokens",
        )
    return TemplateTuned(model, settings, build).begin()


def load(model: Any, folder: Path, settings: PTuningTemplate) -> Tuned:
    """Insert saved virtual tokens.

    Raises:
        UserError: they do not fit the model.
    """
    return TemplateTuned(model, settings, build).load(folder)
