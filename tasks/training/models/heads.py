"""Models with a head: one of its outputs for each label of a text, or for each tag of a word.

The head is new on a base without one, initialised from the seed. On a base that has one, the outputs of labels it
knows are kept.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.errors import UserError
from schemas.spec.objectives import ObjectiveKind
from tasks.data.labels.model_head import TASKS, TaskOutputs, read_head, read_tasks
from tasks.data.model.folder import read_config, view
from tasks.data.model.loading import loading
from tasks.storage.hashing import sha256_value
from tasks.training.models.weights import read_weights, require_none

INITIAL_STD = 0.02  # of new outputs where the configuration names none; BERT's and Llama's own


@dataclass(frozen=True)
class Head:
    """What a model with a head gives."""

    kind: ObjectiveKind
    names: tuple[str, ...]
    """Of its outputs, in their order."""
    pad: int
    """Id of padding: causal models pool the last token that is another."""
    tasks: tuple[TaskOutputs, ...] = ()
    """Which outputs belong to which of several tasks; empty if there is one."""


@dataclass(frozen=True)
class HeadInputs:
    """The head to train, and the labels beside the tokens."""

    head: Head
    labels: Sequence[Sequence[npt.NDArray[np.int32]]]
    key: str
    """Of the step that wrote the labels."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Share of the loss of each of several tasks, relative to one another."""

    @property
    def keys(self) -> dict[str, str]:
        """What a training with this head is named by."""
        weights = {"weights": sha256_value(dict(self.weights))} if self.weights else {}
        return {"labels": self.key, **weights}


@dataclass(frozen=True)
class WithHead:
    """A loaded model and what in it is new."""

    model: Any
    new: tuple[str, ...]
    """Names of the modules that must train whatever the method."""
    fresh: bool = False
    """Whether all outputs are new: the base had no head of this kind."""


def load_plain_head(
    folder: Path, head: Head, dtype: Any = None, settings: Mapping[str, Any] | None = None
) -> tuple[Any, list[str]]:
    """Load full weights with a head of these outputs; return the model and the names of weights that are new.

    Raises:
        UserError: the weights do not fit the architecture, or it has no such head.
    """
    from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification
    from transformers.utils import logging

    classification = head.kind == "text_classification"
    auto: Any = AutoModelForSequenceClassification if classification else AutoModelForTokenClassification
    fix = f"name the complete folder of a model that transformers has a {head.kind} head for"
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # that the head is new is no news here
    try:
        given = {**_outputs(head), **_without_head(auto, folder, settings or {})}
        model, missing = read_weights(auto, folder, dtype, given, fix)
    finally:
        logging.set_verbosity(verbosity)
    body = f"{model.base_model_prefix}."
    require_none([name for name in missing if name.startswith(body) and ".pooler." not in name], folder, fix)
    return model, missing


def _without_head(auto: Any, folder: Path, settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Keep the head (and a pooler, which may be new as well) out of a quantisation: it trains."""
    from transformers import AutoConfig

    if "quantization_config" not in settings:
        return settings
    import torch

    with (
        view(folder) as shown,
        loading("cannot load the model", folder, "fetch it again", shown),
        torch.device("meta"),
    ):
        skeleton = auto.from_config(AutoConfig.from_pretrained(shown, local_files_only=True))
    prefix = skeleton.base_model_prefix
    kept = [name for name, _ in skeleton.named_children() if name != prefix]
    kept += [name for name, _ in skeleton.named_modules() if name == f"{prefix}.pooler"]
    quantization = copy.deepcopy(settings["quantization_config"])
    quantization.llm_int8_skip_modules = kept
    return {**settings, "quantization_config": quantization}


def load_head_model(folder: Path, dtype: Any = None) -> Any:
    """Load full weights that have a head already.

    Raises:
        UserError: a weight of the head is missing.
    """
    head = head_of(folder)
    assert head is not None
    model, missing = load_plain_head(folder, head, dtype)
    require_none(missing, folder, "fetch or train the model again")
    return model


def head_of(folder: Path) -> Head | None:
    """The head of a model folder, full weights or adapter; None for a language model."""
    known = read_head(folder)
    return None if known is None else Head(known[0], known[1], _pad_of(folder), read_tasks(folder))


def _pad_of(folder: Path) -> int:
    pad = read_config(folder / "config.json").get("pad_token_id")
    if not isinstance(pad, int):
        what = "the model's configuration names no padding token (pad_token_id)"
        raise UserError(what, str(folder / "config.json"), "write the id of its padding token there")
    return pad


def _outputs(head: Head) -> dict[str, Any]:
    """The keys of a configuration that describe the outputs."""
    return {
        "num_labels": len(head.names),
        "id2label": dict(enumerate(head.names)),
        "label2id": {name: number for number, name in enumerate(head.names)},
        "pad_token_id": head.pad,
        **({"problem_type": "single_label_classification"} if head.kind == "text_classification" else {}),
    }


def fit_head(model: Any, head: Head) -> None:
    """Give the model exactly these outputs: known ones keep their weights, others are new."""
    import torch

    config = model.config
    known = {name: int(number) for number, name in config.id2label.items()}
    if tuple(config.id2label[number] for number in sorted(config.id2label)) != head.names:
        name, old = _output_layer(model)
        new = torch.nn.Linear(old.in_features, len(head.names), bias=old.bias is not None)
        std = getattr(config, "initializer_range", INITIAL_STD)
        torch.nn.init.normal_(new.weight, std=std)
        if new.bias is not None:
            torch.nn.init.zeros_(new.bias)
        with torch.no_grad():
            for number, label in enumerate(head.names):
                if label in known:
                    new.weight[number] = old.weight[known[label]]
                    if new.bias is not None:
                        new.bias[number] = old.bias[known[label]]
        model.set_submodule(name, new.to(old.weight.dtype))
        if hasattr(model, "num_labels"):
            model.num_labels = len(head.names)
    for key, value in _outputs(head).items():
        setattr(config, key, value)
    tasks = [[task.name, task.start, task.stop] for task in head.tasks]
    if tasks or hasattr(config, TASKS):
        setattr(config, TASKS, tasks)


def _output_layer(model: Any) -> tuple[str, Any]:
    """Name and module of the head's last linear layer."""
    return output_layers(model)[-1]


def output_layers(model: Any) -> list[tuple[str, Any]]:
    """Name and module of each linear layer of the head with an output for each label; the last one called gives the logits.

    Raises:
        UserError: it has none.
    """
    import torch

    found = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
        and module.out_features == model.config.num_labels
        and not name.startswith(f"{model.base_model_prefix}.")
    ]
    if not found:
        raise UserError(
            f"the head of {type(model).__name__} cannot be given other labels",
            "base",
            "start from the model without its head",
        )
    return found


def require_length(model: Any, sequence_length: int) -> None:
    """Read one text of the full length before training does: encoders know only so many positions.

    Raises:
        UserError: the model cannot read it.
    """
    import torch

    ids = torch.ones((1, sequence_length), dtype=torch.int64, device=model.device)
    model.eval()
    try:
        with torch.inference_mode():
            model(input_ids=ids, attention_mask=torch.ones_like(ids))
    except (IndexError, RuntimeError) as error:
        longest = getattr(model.config, "max_position_embeddings", None)
        raise UserError(
            f"the model cannot read {sequence_length} tokens"
            + (f": it knows {longest} positions" if longest else f" ({type(error).__name__})"),
            "training.sequence_length",
            f"write {min(longest or 512, 512)} or less; longer rows are cut off, and counted as truncated",
        ) from None
