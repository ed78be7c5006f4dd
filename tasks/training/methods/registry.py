"""The tuning methods there are. `rootstock methods` and docs/methods.md are made from this table."""

from schemas.methods import Full, Lora
from schemas.methods_adapters import (
    Adapter,
    AdapterDrop,
    AdapterFusion,
    AdapterParallel,
    AdapterPfeiffer,
    Mam,
    Unipelt,
)
from tasks.training.methods import adapter_drop, adapter_fusion, adapters, full, lora, mam, unipelt
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
    "adapter": MethodEntry(
        settings=Adapter,
        attach=adapters.attach,
        load=adapters.load,
        paper="Houlsby et al., 2019, https://arxiv.org/abs/1902.00751",
        trains="two bottlenecks in each block, after attention and after the feed-forward network, and the blocks' norms",
        stores="the bottlenecks and norms, beside the base",
        refuses="models that are not made of blocks with attention; merging; a base from scratch",
    ),
    "adapter_pfeiffer": MethodEntry(
        settings=AdapterPfeiffer,
        attach=adapters.attach,
        load=adapters.load,
        paper="Pfeiffer et al., 2021, https://arxiv.org/abs/2005.00247",
        trains="one bottleneck in each block, after the feed-forward network",
        stores="the bottlenecks, beside the base",
        refuses="models that are not made of blocks with attention; merging; a base from scratch",
    ),
    "adapter_parallel": MethodEntry(
        settings=AdapterParallel,
        attach=adapters.attach,
        load=adapters.load,
        paper="He et al., 2022, https://arxiv.org/abs/2110.04366",
        trains="one scaled bottleneck in each block, beside the feed-forward network",
        stores="the bottlenecks, beside the base",
        refuses="models that are not made of blocks with attention; merging; a base from scratch",
    ),
    "adapter_drop": MethodEntry(
        settings=AdapterDrop,
        attach=adapter_drop.attach,
        load=adapter_drop.load,
        paper="Rücklé et al., 2021, https://arxiv.org/abs/2010.11918",
        trains="Pfeiffer's bottlenecks, in each step without those of the lowest blocks",
        stores="the bottlenecks, beside the base; those of the lowest blocks can be left out when the model is used",
        refuses="dropping every block; models that are not made of blocks with attention; merging; a base from scratch",
    ),
    "adapter_fusion": MethodEntry(
        settings=AdapterFusion,
        attach=adapter_fusion.attach,
        load=adapter_fusion.load,
        paper="Pfeiffer et al., 2021, https://arxiv.org/abs/2005.00247",
        trains="in each block an attention over adapters of earlier trainings, which stay frozen",
        stores="the attentions and the frozen adapters, beside the base",
        refuses="adapters of another method or base; merging; a base from scratch",
    ),
    "mam": MethodEntry(
        settings=Mam,
        attach=mam.attach,
        load=mam.load,
        paper="He et al., 2022, https://arxiv.org/abs/2110.04366",
        trains="a short prefix in each attention, and a scaled parallel bottleneck in each block",
        stores="the prefixes and bottlenecks, beside the base",
        refuses="attention that is not transformers' own (sdpa); merging; a base from scratch",
    ),
    "unipelt": MethodEntry(
        settings=Unipelt,
        attach=unipelt.attach,
        load=unipelt.load,
        paper="Mao et al., 2022, https://arxiv.org/abs/2110.07577",
        trains="in each block LoRA on queries and values, a prefix, a bottleneck, and a gate for each of the three",
        stores="all of these, beside the base",
        refuses="queries and values in one matrix (GPT-2); attention that is not transformers' own (sdpa); merging; a base from scratch",
    ),
}
