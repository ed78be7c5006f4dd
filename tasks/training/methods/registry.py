"""The tuning methods there are. `rootstock methods` and docs/methods.md are made from this table."""

from schemas.methods import Full, Lora
from tasks.training.methods import full, lora
from tasks.training.methods.base import MethodEntry
from tasks.training.methods.peft_backed import load_peft

METHODS: dict[str, MethodEntry] = {
    "full": MethodEntry(
        settings=Full,
        attach=full.attach,
        load=full.load,
        paper="-",
        trains="every parameter",
        stores="the whole model",
        refuses="nothing",
    ),
    "lora": MethodEntry(
        settings=Lora,
        attach=lora.attach,
        load=load_peft,
        paper="Hu et al., 2021, https://arxiv.org/abs/2106.09685",
        trains="two low-rank matrices beside each chosen linear layer",
        stores="the matrices (PEFT format), mergeable into the base",
        refuses="modules that the model does not have; a base from scratch",
    ),
}
