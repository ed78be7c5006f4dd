"""EWC: Overcoming catastrophic forgetting in neural networks (Kirkpatrick et al., 2017, https://arxiv.org/abs/1612.00796).

Online, across increments: Progress & Compress (Schwarz et al., 2018, https://arxiv.org/abs/1805.06370).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from schemas.errors import UserError
from schemas.spec.remedies import Ewc
from tasks.data.model.folder import FISHER_FILE
from tasks.data.plan.plan import load_general
from tasks.storage.code import code_version
from tasks.storage.hashing import sha256_file
from tasks.storage.steps import Step, StepPlan, run_step
from tasks.training.remedies.base import Remedy, RemedyContext
from tasks.training.remedies.parts.differences import differences
from tasks.training.remedies.parts.general import documents_sha256, take_tokens
from tasks.training.threads import on_threads

if TYPE_CHECKING:
    import torch

    from tasks.training.methods.base import Tuned

FILE = "fisher.safetensors"
BESIDE = Path(FISHER_FILE)
"""In the folder of a model: out of the way of its own weights."""


class EwcAtWork(Remedy):
    """Weights held where the Fisher information is large."""

    def __init__(self, tuned: "Tuned", settings: Ewc, fisher: "dict[str, torch.Tensor]", online: bool):
        """`fisher`: of every weight of the base, in float32; `online`: whether the base's own was added."""
        self.settings, self.fisher, self.online = settings, fisher, online
        self.moved = differences(tuned)

    def penalty(self) -> "torch.Tensor":
        """Equation 3: lambda / 2 times the sum over weights of F times the squared difference to the base."""
        import torch

        terms = []
        for name, difference in self.moved.items():
            moved = difference()
            if self.fisher[name].device != moved.device:
                self.fisher[name] = self.fisher[name].to(moved.device)
            terms.append((self.fisher[name] * moved.square()).sum())
        return self.settings.strength / 2 * torch.stack(terms).sum()

    def facts(self) -> dict[str, Any]:
        """Mean Fisher information, and lambda / 2 times the weighted distance in the end."""
        import torch

        with torch.no_grad():
            penalty = float(self.penalty())
        numbers = sum(tensor.numel() for tensor in self.fisher.values())
        mean = sum(float(tensor.sum(dtype=torch.float64)) for tensor in self.fisher.values()) / numbers
        return {"penalty_nats": penalty, "mean_fisher": mean, "earlier_fisher_added": self.online}

    def save(self, folder: Path) -> None:
        """Online: write the sum that the next increment adds to."""
        if self.settings.gamma is None:
            return
        from safetensors.torch import save_file

        (folder / BESIDE).parent.mkdir(parents=True)
        save_file({name: tensor.cpu() for name, tensor in self.fisher.items()}, folder / BESIDE)


def reads(settings: Ewc, base: Path) -> Mapping[str, str]:
    """The base's own Fisher information, if it is to be added and there is some."""
    earlier = base / BESIDE
    return {"fisher": sha256_file(earlier)} if settings.gamma is not None and earlier.is_file() else {}


def prepare(settings: Ewc, context: RemedyContext) -> Step:
    """Measure the Fisher information of the base on general text, once for all strengths."""
    from tasks.data.model.folder import model_sha256
    from tasks.training.models.load import load_base

    base, seed = context.inputs.base, context.spec.training.seed
    documents = context.ids_of(take_tokens(load_general(context.inputs.plan), settings.general_tokens))
    plan = StepPlan(
        root=context.root,
        name="fisher",
        inputs={"base": model_sha256(base), "documents": documents_sha256(documents)},
        settings=seed,
        code=code_version(__name__),
    )

    def work(folder: Path) -> dict[str, Any]:
        from safetensors.torch import save_file

        save_file(fisher_information(load_base(base), documents, seed), folder / FILE)
        return {"documents": len(documents), "tokens": sum(len(ids) - 1 for ids in documents)}

    return run_step(plan, on_threads(plan, work))


def attach(tuned: "Tuned", settings: Ewc, context: RemedyContext, prepared: Step | None) -> Remedy:
    """Hold what trains, and with gamma add the base's own Fisher information times gamma.

    Raises:
        UserError: the stored Fisher information is that of another architecture.
    """
    from safetensors.torch import load_file

    from tasks.training.models.soundness import read_tensors

    assert prepared is not None
    fisher = load_file(prepared.folder / FILE)
    earlier = context.inputs.base / BESIDE
    online = settings.gamma is not None and earlier.is_file()
    if settings.gamma is not None and online:
        before = read_tensors(earlier)
        if {n: t.shape for n, t in before.items()} != {n: t.shape for n, t in fisher.items()}:
            fix = "remove the folder ewc from the base, or remove gamma from the remedy"
            raise UserError("the base's Fisher information does not fit its weights", str(earlier), fix)
        fisher = {name: settings.gamma * before[name] + fisher[name] for name in fisher}
    return EwcAtWork(tuned, settings, fisher, online)


def fisher_information(
    model: Any, documents: "Sequence[np.ndarray[Any, Any]]", seed: int
) -> "dict[str, torch.Tensor]":
    """Diagonal Fisher information of a language model, per label token: parameter name -> (its shape), float32.

    The sum over documents of the squared gradient of -log p(y | text), divided by the number of label tokens. Each
    label y is drawn from the model's own prediction at its place, so the gradients of the tokens of a document are
    uncorrelated, and the expected square of their sum is the sum of their expected squares. Documents go through the
    model one at a time: a square of a sum over documents would not be the Fisher information.
    """
    import torch
    from torch.nn.functional import cross_entropy

    from tasks.training.device import find_device

    device = find_device()
    model = model.to(device.name).eval().requires_grad_(True)
    sums = {name: torch.zeros_like(p, dtype=torch.float32) for name, p in model.named_parameters()}
    tokens = 0
    for number, ids in enumerate(documents):
        batch = torch.from_numpy(ids.astype(np.int64))[None].to(device.name)
        model.zero_grad(set_to_none=True)
        with torch.autocast(device.name, torch.bfloat16, enabled=device.autocast):
            logits = model(input_ids=batch, use_cache=False).logits[0, :-1].float()  # (T - 1, V)
        labels = sample_labels(logits.detach().cpu(), seed, number).to(device.name)
        cross_entropy(logits, labels, reduction="sum").backward()
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                sums[name] += parameter.grad.float().square()
        tokens += len(labels)
    return {name: (total / tokens).cpu() for name, total in sums.items()}


def sample_labels(logits: "torch.Tensor", seed: int, document: int) -> "torch.Tensor":
    """One label per row of the logits (T, V), from the model's own distribution: (T,). A stream per document."""
    import torch

    stream = int(np.random.SeedSequence([seed, document]).generate_state(1, np.uint64)[0] >> np.uint64(1))
    generator = torch.Generator().manual_seed(stream)
    return torch.multinomial(logits.softmax(dim=-1), 1, generator=generator)[:, 0]
