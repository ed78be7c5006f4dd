"""LoRA: Low-Rank Adaptation (Hu et al., 2021, https://arxiv.org/abs/2106.09685), with its refinements.

rsLoRA: Kalajdzievski, 2023, https://arxiv.org/abs/2312.03732. LoRA+: Hayou et al., 2024,
https://arxiv.org/abs/2402.12354. DoRA: Liu et al., 2024, https://arxiv.org/abs/2402.09353. PiSSA: Meng et al., 2024,
https://arxiv.org/abs/2404.02948. OLoRA: Buyukakyuz, 2024, https://arxiv.org/abs/2406.01775.
"""

import contextlib
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from schemas.spec.methods.peft import Lora
from tasks.training.methods.base import TrainingContext, Tuned
from tasks.training.methods.parts.peft_backed import PeftTuned, attach_peft, require_modules

ADAPTER_FILE = "adapter_model.safetensors"


class LoraTuned(PeftTuned):
    """LoRA's matrices, B with a learning rate of its own where asked for."""

    def __init__(self, model: Any, learning_rate_ratio: float):
        super().__init__(model)
        self.learning_rate_ratio = learning_rate_ratio

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]] | None:
        """LoRA+: B at `learning_rate_ratio` times the rate of everything else."""
        if self.learning_rate_ratio == 1:
            return None
        groups: list[list[Any]] = [[], []]
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad:
                groups[".lora_B." in name].append(parameter)
        return [
            {"params": groups[0], "lr": learning_rate},
            {"params": groups[1], "lr": learning_rate * self.learning_rate_ratio},
        ]


class SplitTuned(LoraTuned):
    """PiSSA and OLoRA: the adapter starts as a part of the weight, W = (W - s B0 A0) + s B0 A0, and the base is the rest.

    What is saved is an ordinary LoRA of twice the rank on the untouched base: s (B A - B0 A0) = s [B, -B0] [A; A0].
    """

    def __init__(self, model: Any, learning_rate_ratio: float, originals: dict[str, Any]):
        super().__init__(model, learning_rate_ratio)
        self.originals = originals
        self.initial = {name: tensor.clone() for name, tensor in self._matrices().items()}

    def _matrices(self) -> dict[str, Any]:
        from peft import get_peft_model_state_dict

        tensors: dict[str, Any] = get_peft_model_state_dict(self.model, save_embedding_layers=False)
        return tensors

    def save(self, folder: Path, reference: str) -> None:
        """Write the difference to the original base as a plain LoRA."""
        import torch
        from safetensors.torch import save_file

        config = copy.deepcopy(self.model.active_peft_config)
        self.settle_config(config, reference)
        config.init_lora_weights, config.inference_mode = True, True
        config.lora_alpha *= 2**0.5 if config.use_rslora else 2  # the scale stays what it was at rank r
        config.r *= 2
        tensors = {}
        for name, tensor in self._matrices().items():
            start = self.initial[name].to(tensor.device)
            if ".lora_A." in name:
                tensor = torch.cat([tensor, start], dim=0)  # (2 r, d_in)
            elif ".lora_B." in name:
                tensor = torch.cat([tensor, -start], dim=1)  # (d_out, 2 r)
            tensors[name] = tensor.detach().contiguous().cpu()
        folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors, folder / ADAPTER_FILE, metadata={"format": "pt"})
        config.save_pretrained(str(folder))

    @contextlib.contextmanager
    def disabled(self) -> Iterator[None]:
        """The base as it was, with the part that the adapter took."""
        modules = dict(self.model.base_model.model.named_modules())
        rest = {}
        for name, original in self.originals.items():
            weight = modules[name].get_base_layer().weight
            rest[name], weight.data = weight.data, original.to(weight.device)
        try:
            with self.model.disable_adapter():
                yield
        finally:
            for name, data in rest.items():
                modules[name].get_base_layer().weight.data = data


def attach(model: Any, settings: Lora, context: TrainingContext) -> Tuned:
    """Train A (r, d_in) and B (d_out, r) beside each frozen W (d_out, d_in).

    h = W x + (alpha / r) B A x. B starts at zero, so training starts at the base model; with init pissa or olora
    A and B start as a part of W, and training starts there up to rounding.

    Raises:
        UserError: no module is named like one of settings.target_modules.
    """
    from peft import LoraConfig

    config = LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]  # PEFT only divides by r
        lora_dropout=settings.dropout,
        target_modules=require_modules(model, settings.target_modules, context),
        use_rslora=settings.rank_stabilized,
        use_dora=settings.weight_decomposed,
        init_lora_weights=True if settings.init == "default" else settings.init,
    )
    if settings.init == "default":
        return LoraTuned(attach_peft(model, config, context), settings.learning_rate_ratio)
    weights = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    peft_model = attach_peft(model, config, context)
    originals = {
        name: weights[f"{name}.weight"]
        for name, module in peft_model.base_model.model.named_modules()
        if hasattr(module, "lora_A")
    }
    return SplitTuned(peft_model, settings.learning_rate_ratio, originals)


def try_on(model: Any, settings: Lora, context: TrainingContext) -> Tuned:
    """`attach` without the singular values or QR decompositions that PiSSA and OLoRA start from."""
    return attach(model, settings.model_copy(update={"init": "default"}), context)
