"""The tuning methods there are. `rootstock methods` and docs/methods.md are made from this table."""

from schemas.methods import Full, Lora
from tasks.training.methods import full, lora
from tasks.training.methods.base import MethodEntry

METHODS: dict[str, MethodEntry] = {
    "full": MethodEntry(
        settings=Full,
        apply=full.apply,
        full_precision_base=True,
        paper="-",
        trains="every parameter",
        stores="the whole model",
        refuses="nothing",
    ),
    "lora": MethodEntry(
        settings=Lora,
        apply=lora.apply,
        full_precision_base=False,
        paper="Hu et al., 2021, https://arxiv.org/abs/2106.09685",
        trains="two low-rank matrices beside each chosen linear layer",
        stores="the matrices (PEFT format), mergeable into the base",
        refuses="modules that the model does not have; a base from scratch",
    ),
}
