"""Where and in what precision to compute."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Device:
    """The device of this process and the precision it computes in."""

    name: str
    """`cuda` or `cpu`."""
    autocast: bool
    """Compute matrix products in bf16 around fp32 master weights (GPUs that have bf16)."""

    @property
    def frozen_dtype(self) -> "torch.dtype":
        """Precision of weights that never change."""
        import torch

        return torch.bfloat16 if self.autocast else torch.float32


def find_device() -> Device:
    """The GPU if there is one, else the CPU. fp16 is never chosen: its range makes LoRA losses NaN."""
    import torch

    if torch.cuda.is_available():
        return Device("cuda", torch.cuda.is_bf16_supported())
    return Device("cpu", False)


def peak_memory_bytes(device: Device) -> int:
    """Most memory held so far: allocated on the GPU, resident on the CPU."""
    if device.name == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated())
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
