"""Learning without Forgetting (Li and Hoiem, 2016, https://arxiv.org/abs/1606.09282): distillation from the base.

The base's predictions are computed once before training and kept on disk: of each position the top k, and what is left
over as one more class. That divergence is at most the whole one, zero exactly where student and base agree on them, and
the whole one where k is the vocabulary.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from schemas.spec.remedies import Distillation
from tasks.data.plan.mix import Pieces, offsets_of
from tasks.data.plan.plan import load_plan
from tasks.storage.code import code_version
from tasks.storage.steps import Step, StepPlan, run_step
from tasks.training.remedies.base import Outputs, Remedy, RemedyContext
from tasks.training.remedies.parts.general import documents_sha256
from tasks.training.remedies.parts.plan_places import is_replay, unique_pieces
from tasks.training.threads import on_threads

if TYPE_CHECKING:
    import torch

    from tasks.training.methods.base import Tuned

TINY = 1e-30  # the least mass of the class of what is left over: its logarithm stays finite


class DistillationAtWork(Remedy):
    """The tuned model stays near the base's predictions."""

    def __init__(
        self,
        settings: Distillation,
        rows: npt.NDArray[np.int64],
        tokens: npt.NDArray[Any],
        log_probs: npt.NDArray[Any],
    ):
        """`rows`: place in the plan -> row of the teacher, -1 for none: (places,); tokens and log_probs: (rows, k)."""
        self.settings, self.rows, self.tokens, self.log_probs = settings, rows, tokens, log_probs

    def loss(self, outputs: Outputs) -> "torch.Tensor":
        """strength x T^2 x the sum of the divergences, per label token of the whole optimizer step (equation 2)."""
        import torch

        predicts = (outputs.labels[:, 1:] != -100) & (outputs.places[:, :-1] >= 0)
        rows = torch.full(predicts.shape, -1, dtype=torch.int64)
        rows[predicts.cpu()] = torch.from_numpy(self.rows[outputs.places[:, :-1][predicts].cpu().numpy()])
        chosen = rows >= 0
        device = outputs.logits.device
        wanted = rows[chosen].numpy()
        student = outputs.logits[:, :-1][chosen.to(device)].float()  # (N, V)
        temperature = self.settings.temperature
        divergences = divergence(
            student / temperature,
            torch.from_numpy(self.tokens[wanted].astype(np.int64)).to(device),
            torch.from_numpy(self.log_probs[wanted]).to(device),
        )
        return self.settings.strength * temperature**2 * divergences.sum() / outputs.num_items

    def facts(self) -> dict[str, Any]:
        """How many positions have a teacher, and what it takes on disk."""
        return {
            "positions": int((self.rows >= 0).sum()),
            "teacher_bytes": int(self.tokens.nbytes + self.log_probs.nbytes),
        }


def divergence(student: "torch.Tensor", tokens: "torch.Tensor", log_probs: "torch.Tensor") -> "torch.Tensor":
    """KL(teacher || student) in nats over the teacher's top k and the class of all others: (N,).

    student: logits (N, V), already divided by the temperature; tokens and log_probs: (N, k).
    """
    import torch

    own = student.log_softmax(dim=-1).gather(1, tokens)  # (N, k)
    probs = log_probs.exp()
    shared = (probs * (log_probs - own)).sum(dim=-1)
    if tokens.shape[1] == student.shape[1]:
        return shared
    rest = (1 - probs.sum(dim=-1)).clamp_min(0)
    own_rest = (1 - own.exp().sum(dim=-1)).clamp_min(TINY)
    return shared + torch.where(rest > 0, rest * (rest.clamp_min(TINY).log() - own_rest.log()), 0.0)


def prepare(settings: Distillation, context: RemedyContext) -> Step:
    """Let the base predict every different document of the plan that is distilled, once for all strengths."""
    from tasks.data.model.folder import model_sha256
    from tasks.training.models.load import load_base

    documents = context.ids_of(distilled(settings, context)[0])
    plan = StepPlan(
        root=context.root,
        name="teacher",
        inputs={"base": model_sha256(context.inputs.base), "documents": documents_sha256(documents)},
        settings=[settings.temperature, settings.top_k],
        code=code_version(__name__),
    )

    def work(folder: Path) -> dict[str, Any]:
        write_teacher(load_base(context.inputs.base), documents, settings, folder)
        return {"documents": len(documents), "positions": sum(len(ids) - 1 for ids in documents)}

    return run_step(plan, on_threads(plan, work))


def distilled(settings: Distillation, context: RemedyContext) -> tuple[Pieces, npt.NDArray[np.int64]]:
    """The different pieces of the plan that have a teacher, and of each piece which of them it is, -1 for none."""
    pieces, _ = load_plan(context.inputs.plan)
    wanted = np.ones(len(pieces), bool) if settings.on == "all" else is_replay(context.spec, pieces)
    different, numbers = unique_pieces(pieces[wanted])
    of_piece = np.full(len(pieces), -1, np.int64)
    of_piece[wanted] = numbers
    return different, of_piece


def write_teacher(
    model: Any, documents: Sequence[npt.NDArray[Any]], settings: Distillation, folder: Path
) -> None:
    """Top k of each position that predicts a label, document after document: `tokens.npy` and `log_probs.npy`."""
    import torch

    from tasks.training.device import find_device

    device = find_device()
    model = model.to(device.name).eval()
    k = min(settings.top_k, int(model.config.get_text_config().vocab_size))
    shape = (sum(len(ids) - 1 for ids in documents), k)
    tokens = np.lib.format.open_memmap(folder / "tokens.npy", "w+", np.int32, shape)
    log_probs = np.lib.format.open_memmap(folder / "log_probs.npy", "w+", np.float32, shape)
    at = 0
    for ids in documents:
        batch = torch.from_numpy(ids.astype(np.int64))[None].to(device.name)
        with torch.inference_mode(), torch.autocast(device.name, torch.bfloat16, enabled=device.autocast):
            logits = model(input_ids=batch, use_cache=False).logits[0, :-1].float()
        values, places = (logits / settings.temperature).log_softmax(dim=-1).topk(k)
        tokens[at : at + len(values)] = places.cpu().numpy()
        log_probs[at : at + len(values)] = values.cpu().numpy()
        at += len(values)
    tokens.flush()
    log_probs.flush()


def attach(tuned: "Tuned", settings: Distillation, context: RemedyContext, prepared: Step | None) -> Remedy:
    """Open the teacher, and find its row for every place of the plan."""
    assert prepared is not None
    pieces, _ = load_plan(context.inputs.plan)
    different, of_piece = distilled(settings, context)
    first_row = np.concatenate([[0], np.cumsum(different["length"].astype(np.int64) - 1)])
    rows = np.full(int(offsets_of(pieces)[-1]), -1, np.int64)
    for start, length, number in _with_teacher(pieces, of_piece):
        rows[start : start + length - 1] = np.arange(first_row[number], first_row[number + 1])
    tokens, log_probs = (
        np.load(prepared.folder / f"{name}.npy", mmap_mode="r") for name in ("tokens", "log_probs")
    )
    return DistillationAtWork(settings, rows, tokens, log_probs)


def _with_teacher(pieces: Pieces, of_piece: npt.NDArray[np.int64]) -> Iterator[tuple[int, int, int]]:
    """(place of its first id, length, number of its teacher) of every piece that has one."""
    starts = offsets_of(pieces)
    for index in np.flatnonzero(of_piece >= 0):
        yield int(starts[index]), int(pieces["length"][index]), int(of_piece[index])
