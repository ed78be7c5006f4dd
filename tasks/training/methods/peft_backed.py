"""Methods that PEFT does: attach, save in PEFT's own format, load, disable, merge."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from schemas.errors import UserError
from tasks.training.methods.base import Tuned


class PeftTuned(Tuned):
    """A PeftModel with one adapter, `default`."""

    def __init__(self, model: Any):
        self.model = model
        self.merges = not model.active_peft_config.is_prompt_learning

    def save(self, folder: Path, reference: str) -> None:
        """Write adapter_config.json and adapter_model.safetensors as PEFT does."""
        for config in self.model.peft_config.values():
            config.base_model_name_or_path = reference
            if isinstance(
                getattr(config, "target_modules", None), set
            ):  # its order would change between processes
                config.target_modules = sorted(config.target_modules)
        self.model.save_pretrained(folder)
        (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty card; ours comes with the verdict

    @contextlib.contextmanager
    def disabled(self) -> Iterator[None]:
        """The base as it was."""
        with self.model.disable_adapter():
            yield

    def merge(self) -> Any:
        """Add the update to the base's weights, in place."""
        return self.model.merge_and_unload()


def attach_peft(model: Any, config: Any) -> PeftTuned:
    """Put a new adapter on the model."""
    from peft import get_peft_model

    return PeftTuned(get_peft_model(model, config))


def load_peft(model: Any, folder: Path, settings: Any = None) -> PeftTuned:
    """Put a saved adapter on the model.

    Raises:
        UserError: the file and the model do not fit: the adapter would silently do nothing or half of its work.
    """
    from peft import PeftConfig, get_peft_model, load_peft_weights, set_peft_model_state_dict

    config = PeftConfig.from_pretrained(str(folder))
    config.inference_mode = True
    peft_model = get_peft_model(model, config)
    result: Any = set_peft_model_state_dict(peft_model, load_peft_weights(str(folder), device="cpu"))
    adapter = {name for name in result.missing_keys if _is_adapter(name, peft_model.prefix)}
    if result.unexpected_keys or adapter:
        first = sorted([*result.unexpected_keys, *adapter])[0]
        raise UserError(
            f"the adapter does not fit its base: {first} is in only one of them",
            str(folder),
            "load it on the base it was trained on, named in adapter_config.json",
        )
    return PeftTuned(peft_model)


def _is_adapter(name: str, prefix: str | None) -> bool:
    return bool(prefix) and f".{prefix}" in name


def linear_names(model: Any) -> list[str]:
    """Last parts of the names of the model's linear layers, its output head left out."""
    import torch

    head = model.get_output_embeddings()
    return sorted(
        {
            name.rsplit(".", 1)[-1]
            for name, module in model.named_modules()
            if isinstance(module, torch.nn.Linear) and module is not head
        }
    )


def require_modules(model: Any, wanted: tuple[str, ...] | str) -> str | list[str]:
    """Return what PEFT takes as target_modules.

    Raises:
        UserError: no linear layer is named like one of them.
    """
    if isinstance(wanted, str):
        return wanted
    known = linear_names(model)
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise UserError(
            f"method.target_modules: the model has no linear layer named {', '.join(unknown)}",
            "method.target_modules",
            f"known: {', '.join(known)}",
        )
    return list(wanted)
