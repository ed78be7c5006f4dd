"""Methods that PEFT does: attach, save in PEFT's own format, load, disable, merge."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from schemas.errors import UserError
from tasks.data.model.folder import ADAPTER_CONFIG, read_config, view
from tasks.data.model.loading import loading
from tasks.training.methods.base import TRAINED, TrainingContext, Tuned
from tasks.training.models.quiet import quiet
from tasks.training.models.soundness import read_tensors

WEIGHTS = "adapter_model.safetensors"
_FIX = "load it on the base it was trained on, named in adapter_config.json"


class PeftTuned(Tuned):
    """A PeftModel with one adapter, `default`, beside which others of the same kind can be put."""

    def __init__(self, model: Any):
        self.model = model
        self.merges = not model.active_peft_config.is_prompt_learning

    def save(self, folder: Path, reference: str) -> None:
        """Write adapter_config.json and adapter_model.safetensors as PEFT does."""
        self.settle_config(self.model.active_peft_config, reference)
        # PEFT would ask the Hub whether the base's vocabulary is another: no method of ours changes it
        self.model.save_pretrained(folder, save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty card; ours comes with the verdict

    @staticmethod
    def settle_config(config: Any, reference: str) -> None:
        """Make adapter_config.json name its base, and be the same in every process."""
        config.base_model_name_or_path = reference
        for name in ("target_modules", "feedforward_modules", "modules_to_save"):
            if isinstance(getattr(config, name, None), set):
                setattr(config, name, sorted(getattr(config, name)))

    @contextlib.contextmanager
    def disabled(self) -> Iterator[None]:
        """The base as it was."""
        if self.model.active_peft_config.is_prompt_learning and not hasattr(
            self.model, "prepare_inputs_for_generation"
        ):  # PEFT's own way asks for that method, which a model with a task head does not have
            self.model.forward = self.model.base_model.forward
            try:
                yield
            finally:
                del self.model.forward
            return
        with self.model.disable_adapter():
            yield

    def add(self, name: str, folder: Path) -> None:
        """Put another saved adapter beside those there are; it is in use once it is activated.

        Raises:
            UserError: it does not fit the model, or PEFT cannot have it beside the others (VeRA's must share their
                projections: the same seed, rank and modules). The model is not to be used then.
        """
        what, fix = "PEFT cannot have this adapter beside the others", "load it on a base of its own"
        config = inference_config(folder)
        try:
            with loading(what, folder, fix):
                self.model.add_adapter(name, config)
                _fill(self.model, folder, name)
        except UserError as error:
            told = error.what if error.what.startswith(what) else f"{what}: {error.what}"
            raise UserError(told, str(folder), fix) from None
        self.model.eval()

    def activate(self, name: str) -> None:
        """Compute with the adapter of this name from now on; nothing of it trains."""
        self.model.set_adapter(name, inference_mode=True)

    def merge(self) -> Any:
        """Add the update to the base's weights, in place."""
        if not self.merges:
            return super().merge()
        return self.model.merge_and_unload()


def attach_peft(model: Any, config: Any, context: TrainingContext) -> Any:
    """Put a new adapter on the model; return the PeftModel, in which the task's head trains too.

    Raises:
        UserError: PEFT would leave the head as it is.
    """
    from peft import get_peft_model

    config.task_type = task_type(model, context)
    if context.head:
        config.modules_to_save = list(context.head)
    peft_model = get_peft_model(model, config)
    trained = {name for name, parameter in peft_model.named_parameters() if parameter.requires_grad}
    for head in context.head:
        if not any(f".{head}." in f".{name}" for name in trained):
            raise UserError(
                f"PEFT does not train the task's head {head} with this method",
                "method.kind",
                "choose another method (rootstock methods lists them)",
            )
    return peft_model


def task_type(model: Any, context: TrainingContext) -> str:
    """PEFT's word for what the model's head does."""
    if not context.head:
        return "CAUSAL_LM"
    return "TOKEN_CLS" if type(model).__name__.endswith("ForTokenClassification") else "SEQ_CLS"


def load_peft(model: Any, folder: Path, settings: Any = None) -> PeftTuned:
    """Put a saved adapter on the model.

    Raises:
        UserError: the file and the model do not fit: the adapter would silently do nothing or half of its work.
    """
    return PeftTuned(load_peft_model(model, folder))


def load_peft_model(model: Any, folder: Path) -> Any:
    """Put a saved adapter on the model; return the PeftModel. See load_peft."""
    from peft import get_peft_model

    config = inference_config(folder)
    with quiet(), loading("PEFT cannot put the adapter on its base", folder, _FIX):
        peft_model = get_peft_model(model, config)
    _fill(peft_model, folder, TRAINED)
    return peft_model


def inference_config(folder: Path) -> Any:
    """What a saved adapter says of itself, to be used and not trained.

    Raises:
        UserError: it names code, or PEFT does not know what it says.
    """
    from peft import PeftConfig
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    fix = "fetch the adapter again; PEFT must know its peft_type and every key"
    what, told = "cannot read the adapter's configuration", read_config(folder / ADAPTER_CONFIG)
    with view(folder) as shown, loading(what, folder / ADAPTER_CONFIG, fix, shown):
        kind = told.get("peft_type")
        if kind not in PEFT_TYPE_TO_CONFIG_MAPPING:
            raise ValueError(f"PEFT knows no peft_type {str(kind)[:40]}")
        known = PEFT_TYPE_TO_CONFIG_MAPPING[kind].__dataclass_fields__.keys() | {"auto_mapping"}
        if strange := sorted(key for key, value in told.items() if value and key not in known):
            raise ValueError(f"PEFT does not know the key {strange[0][:40]}, and would leave it out")
        with quiet():
            config: Any = PeftConfig.from_pretrained(str(shown))
        config.inference_mode = True
    return config


def _fill(peft_model: Any, folder: Path, name: str) -> None:
    """Fill the adapter of this name.

    Raises:
        UserError: see load_peft.
    """
    from peft import set_peft_model_state_dict

    weights = read_tensors(folder / WEIGHTS)
    with loading("the adapter does not fit its base", folder, _FIX):
        result: Any = set_peft_model_state_dict(peft_model, weights, adapter_name=name)
    if peft_model.peft_config[name].is_prompt_learning:  # its one tensor was put in its place, strictly
        odd = sorted(set(result.unexpected_keys) - {"prompt_embeddings"})
    else:
        missing = {
            key for key in result.missing_keys if f".{peft_model.prefix}" in key and f".{name}." in f"{key}."
        }
        odd = sorted([*result.unexpected_keys, *missing])
    if odd:
        raise _misfit(f"{odd[0]} is in only one of them", folder)


def _misfit(reason: str, folder: Path) -> UserError:
    return UserError(f"the adapter does not fit its base: {reason}", str(folder), _FIX)


def linear_layers(model: Any, context: TrainingContext) -> dict[str, Any]:
    """The model's linear layers by full name (GPT-2's Conv1D included), its output head and the task's head left out."""
    import torch
    from transformers.pytorch_utils import Conv1D

    output = model.get_output_embeddings()
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D)
        and module is not output
        and not any(f".{name}.".find(f".{head}.") >= 0 for head in context.head)
    }


def require_modules(
    model: Any, wanted: tuple[str, ...] | str, context: TrainingContext, key: str = "target_modules"
) -> str | list[str]:
    """Return what PEFT takes as target_modules.

    Raises:
        UserError: no linear layer is named like one of them.
    """
    layers = linear_layers(model, context)
    if isinstance(wanted, str):
        return list(layers) if context.head else wanted
    known = sorted({name.rsplit(".", 1)[-1] for name in layers})
    unknown = [
        name for name in wanted if not any(full == name or full.endswith(f".{name}") for full in layers)
    ]
    if unknown:
        raise UserError(
            f"method.{key}: the model has no linear layer named {', '.join(unknown)}",
            f"method.{key}",
            f"known: {', '.join(known)}",
        )
    return list(wanted)
