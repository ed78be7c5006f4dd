"""How far a model in training is from its base, weight by weight, whatever the method calls its parameters."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tasks.training.methods.base import TRAINED, Tuned
from tasks.training.methods.parts.own_weights import WholeModel

if TYPE_CHECKING:
    import torch

PEFT_PREFIX = "base_model.model."


def differences(tuned: Tuned) -> "Mapping[str, Callable[[], torch.Tensor]]":
    """Name of each weight of the base that the method can change -> its difference now, with its gradient.

    Called before the first step: the weights that move are remembered as they are.
    """
    if hasattr(tuned.model, "peft_config"):
        return {
            f"{name.removeprefix(PEFT_PREFIX)}.weight": _low_rank(module)
            for name, module in tuned.model.named_modules()
            if hasattr(module, "get_delta_weight") and TRAINED in getattr(module, "lora_B", {})
        }
    return {
        name: _moved(parameter)
        for name, parameter in tuned.model.named_parameters()
        if parameter.requires_grad or isinstance(tuned, WholeModel)
    }


def _low_rank(module: Any) -> "Callable[[], torch.Tensor]":
    return lambda: module.get_delta_weight(TRAINED)


def _moved(parameter: "torch.nn.Parameter") -> "Callable[[], torch.Tensor]":
    kept = [parameter.detach().clone()]

    def difference() -> "torch.Tensor":
        if kept[0].device != parameter.device:
            kept[0] = kept[0].to(parameter.device)
        return parameter - kept[0]

    return difference


def origins(tuned: Tuned) -> "list[tuple[torch.nn.Parameter, torch.Tensor]]":
    """Parameters that lead from the base to the tuned model on a straight line, with their values at the base.

    Called before the first step. Of a product of two matrices it is the one that starts at zero.
    """
    import torch

    from tasks.training.methods.parts.deltas import DeltaTuned, SparseDelta

    if hasattr(tuned.model, "peft_config"):
        found = [p for name, p in tuned.model.named_parameters() if ".lora_B." in name]
    elif isinstance(tuned, DeltaTuned):
        found = [delta.values for delta in tuned.deltas.values() if isinstance(delta, SparseDelta)]
    else:
        found = [p for p in tuned.model.parameters() if p.requires_grad or isinstance(tuned, WholeModel)]
    if hasattr(tuned.model, "peft_config") or isinstance(tuned, DeltaTuned):
        assert all(not torch.any(parameter) for parameter in found), "training starts at the base"
    return [(parameter, parameter.detach().clone()) for parameter in found]
