"""QLoRA: Efficient Finetuning of Quantized LLMs (Dettmers et al., 2023, https://arxiv.org/abs/2305.14314)."""

from pathlib import Path
from typing import Any

from schemas.errors import UserError
from schemas.spec.methods.peft import Qlora
from tasks.training.methods.base import TrainingContext, Tuned
from tasks.training.methods.parts.peft_backed import (
    PeftTuned,
    attach_peft,
    load_peft_model,
    require_modules,
)


class QloraTuned(PeftTuned):
    """LoRA beside a 4-bit base. Merged into the base the update would be rounded to 4 bits and lost: it stays beside."""

    dequantizes = True

    def __init__(self, model: Any):
        super().__init__(model)
        self.merges = False

    def dequantized(self, folder: Path) -> Any:
        """Turn the 4-bit weights into float32 and add the saved update to them; this model is used up."""
        return load_peft_model(dequantize(self.model.unload()), folder).merge_and_unload()


def base_settings(settings: Qlora) -> dict[str, Any]:
    """Load the linear layers in NF4; they compute in the precision of the device.

    Raises:
        UserError: bitsandbytes is not installed.
    """
    import importlib.util

    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError("QLoRA needs bitsandbytes", "method.kind", "run: pip install 'bitsandbytes>=0.50'")
    from transformers import BitsAndBytesConfig

    from tasks.training.device import find_device

    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=settings.double_quantization,
        bnb_4bit_compute_dtype=find_device().frozen_dtype,
    )
    return {"quantization_config": quantization}


def attach(model: Any, settings: Qlora, context: TrainingContext) -> Tuned:
    """Train A (r, d_in) and B (d_out, r) beside each frozen 4-bit W: h = dequantise(W) x + (alpha / r) B A x.

    Raises:
        UserError: the base is not in 4 bits, or no module is named like one of settings.target_modules, or this
            device cannot compute with the base's widths in 4 bits.
    """
    from peft import LoraConfig

    if not getattr(model, "is_loaded_in_4bit", False):
        raise UserError("the base was not loaded in 4 bits", "method.kind", "use method 'lora' on it")
    require_whole_blocks(model)
    config = LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]  # PEFT only divides by r
        lora_dropout=settings.dropout,
        target_modules=require_modules(model, settings.target_modules, context),
    )
    return QloraTuned(attach_peft(model, config, context))


def load(model: Any, folder: Path, settings: Qlora) -> Tuned:
    """Put a saved adapter on the 4-bit base.

    Raises:
        UserError: this device cannot compute with the base's widths in 4 bits.
    """
    require_whole_blocks(model)
    return QloraTuned(load_peft_model(model, folder))


def require_whole_blocks(model: Any) -> None:
    """bitsandbytes 0.50 reads the wrong scales on the CPU where a row of a weight is not a whole number of blocks.

    Raises:
        UserError: the model is on the CPU and has such a weight.
    """
    for name, module in model.named_modules():
        state = getattr(getattr(module, "weight", None), "quant_state", None)
        if state is None or module.weight.device.type != "cpu":
            continue
        if module.in_features % state.blocksize:
            raise UserError(
                f"in 4 bits {name} would be computed wrongly on the CPU: its width {module.in_features} is not a"
                f" multiple of {state.blocksize}",
                "method.kind",
                "run on a GPU, or use method 'lora'",
            )


def dequantize(model: Any) -> Any:
    """Replace every 4-bit layer by a float32 one with the weights that it computed with; in place."""
    import torch
    from bitsandbytes.functional import dequantize_4bit
    from bitsandbytes.nn.modules import Linear4bit

    modules: dict[str, Any] = dict(model.named_modules())
    for name, module in modules.items():
        if not isinstance(module, Linear4bit):
            continue
        packed: Any = module.weight
        weight = dequantize_4bit(packed.data, packed.quant_state)
        plain = torch.nn.Linear(
            module.in_features, module.out_features, module.bias is not None, device=packed.device
        )
        with torch.no_grad():
            plain.weight.copy_(weight)
            if module.bias is not None:
                plain.bias.copy_(module.bias)
        model.set_submodule(name, plain.requires_grad_(False))
    for key in ("is_loaded_in_4bit", "is_quantized", "hf_quantizer", "quantization_method"):
        if hasattr(model, key):
            delattr(model, key)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    return model.float()
