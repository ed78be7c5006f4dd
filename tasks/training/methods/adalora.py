"""AdaLoRA: Adaptive Budget Allocation for Parameter-Efficient Fine-Tuning (Zhang et al., 2023, https://arxiv.org/abs/2303.10512)."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.errors import UserError
from schemas.spec.methods.peft import AdaLora
from tasks.training.methods.base import TrainingContext, Tuned
from tasks.training.methods.parts.peft_backed import PeftTuned, attach_peft, load_peft_model, require_modules

if TYPE_CHECKING:
    import torch

AVERAGES = ("exp_avg_ipt", "exp_avg_unc")
"""The allocator's moving averages: sensitivity and its uncertainty, one number for each trained weight."""


class AdaLoraTuned(PeftTuned):
    """Updates P diag(lambda) Q whose singular values are cut to a falling budget."""

    def __init__(self, model: Any, orthogonality: float):
        super().__init__(model)
        self.orthogonality = orthogonality

    @property
    def _tuner(self) -> Any:
        return self.model.base_model

    def allocate(self, step: int) -> None:
        """Update the importance of every singular value and cut those beyond the budget; `step` counts from 1."""
        self._tuner.update_and_allocate(step)

    def callbacks(self) -> list[Any]:
        """Allocate after each optimizer step, while its gradients are still there."""
        from transformers import TrainerCallback

        tuned = self

        class Allocate(TrainerCallback):
            def on_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                tuned.allocate(state.global_step + 1)

        return [Allocate()]

    def penalty(self) -> "torch.Tensor | None":
        """Mean over all P and Q of the Frobenius norm of P^T P - I (as in the authors' code; the paper squares it).

        PEFT would add it to the loss of every micro-batch, so that it grew with gradient accumulation.
        """
        import torch

        if self.orthogonality == 0:
            return None
        norms = []
        for name, parameter in self.model.named_parameters():
            if ".lora_A." in name or ".lora_B." in name:
                gram = parameter @ parameter.T if ".lora_A." in name else parameter.T @ parameter  # (r, r)
                norms.append(torch.linalg.matrix_norm(gram - torch.eye(len(gram), device=gram.device)))
        return self.orthogonality * torch.stack(norms).mean()

    def facts(self) -> dict[str, Any]:
        """The rank that each matrix has in the end."""
        ranks = {
            name.split(".lora_E")[0].removeprefix("model."): sum(kept)
            for name, kept in (self.model.active_peft_config.rank_pattern or {}).items()
        }
        return {"ranks": ranks, "total_rank": sum(ranks.values())}

    def state(self) -> "dict[str, torch.Tensor]":
        """The matrices, the moving averages, and which singular values are cut."""
        import torch

        allocator = self._tuner.rankallocator
        averages = {
            f"{kind}:{name}": tensor for kind in AVERAGES for name, tensor in getattr(allocator, kind).items()
        }
        pattern = self.model.active_peft_config.rank_pattern or {}
        kept = {f"rank_pattern:{name}": torch.tensor(value) for name, value in pattern.items()}
        return {**super().state(), **averages, **kept}

    def load_state(self, tensors: "dict[str, torch.Tensor]") -> None:
        """Take up the allocator's memory too."""
        allocator, config = self._tuner.rankallocator, self.model.active_peft_config
        own = dict(self._tuner.model.named_parameters())
        memory: dict[str, dict[str, Any]] = {kind: {} for kind in (*AVERAGES, "rank_pattern")}
        for key, tensor in tensors.items():
            kind, sign, name = key.partition(":")
            if sign:
                memory[kind][name] = tensor
        for kind in AVERAGES:
            setattr(allocator, kind, {name: t.to(own[name].device) for name, t in memory[kind].items()})
        allocator.ipt = dict(allocator.exp_avg_ipt)  # PEFT asks it only for the names that were seen before
        config.rank_pattern = {name: t.tolist() for name, t in memory["rank_pattern"].items()} or None
        super().load_state({name: tensor for name, tensor in tensors.items() if ":" not in name})


def attach(model: Any, settings: AdaLora, context: TrainingContext) -> Tuned:
    """Train P (d_out, r), lambda (r,) and Q (r, d_in) beside each frozen W: h = W x + alpha / r P diag(lambda) Q x.

    lambda starts at zero, so training starts at the base model. From step t_i on the sum of all ranks falls with the
    cube of the remaining time, from init_r to target_r per matrix; in the last t_f steps it stays.

    Raises:
        UserError: the run has too few steps for the schedule, or no module is named like one of the targets.
    """
    from peft import AdaLoraConfig

    initial, final = (
        math.floor(context.steps * ratio) for ratio in (settings.warmup_ratio, settings.final_ratio)
    )
    if context.steps - final < 2:
        raise UserError(
            f"AdaLoRA cannot allocate ranks in {context.steps} steps of which the last {final} keep them",
            "method.final_ratio",
            "train for more steps, or lower method.final_ratio",
        )
    config = AdaLoraConfig(
        init_r=settings.init_r,
        target_r=settings.target_r,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]  # PEFT only divides by r
        lora_dropout=settings.dropout,
        target_modules=require_modules(model, settings.target_modules, context),
        tinit=initial,
        tfinal=final,
        deltaT=settings.delta_t,
        beta1=settings.beta1,
        beta2=settings.beta2,
        orth_reg_weight=0.0,  # `penalty` does it
        total_step=context.steps,
    )
    return AdaLoraTuned(attach_peft(model, config, context), settings.orthogonality)


def load(model: Any, folder: Path, settings: AdaLora) -> Tuned:
    """Put saved updates on the model, each with the rank it ended with."""
    peft_model = load_peft_model(model, folder)
    # PEFT's forward asks for it as soon as there are labels, though an adapter for inference has none
    peft_model.base_model.trainable_adapter_name = "default"
    return AdaLoraTuned(peft_model, settings.orthogonality)
