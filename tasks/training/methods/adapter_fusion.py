"""AdapterFusion: Non-Destructive Task Composition (Pfeiffer et al., 2021, https://arxiv.org/abs/2005.00247).

Stage 1 is trainings with adapter_pfeiffer: one for each task (the paper's ST-A), or one of several tasks with an
adapter for each (`per_task`: task_adapters.py says how far that is the paper's MT-A). Stage 2, this file, keeps
base and adapters frozen and trains in each block an attention over what the N adapters make of the feed-forward
network's output h (section 3.2):

    s = softmax(K(u_n) . Q(h))    h + sum_n s_n V u_n,    u_n what adapter n adds to h

As in the authors' code, keys and values are made from u_n, and h is added afterwards. V starts at the identity and is
pulled towards it."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.errors import UserError
from schemas.spec.methods.adapters import AdapterFusion, AdapterPfeiffer
from tasks.data.model.folder import model_sha256
from tasks.training.methods.base import TrainingContext, Tuned
from tasks.training.methods.parts.insertion import (
    CONTAINER,
    WEIGHTS,
    Inserted,
    InsertedTuned,
    Modules,
    behind,
)
from tasks.training.methods.parts.structure import Architecture
from tasks.training.models.soundness import read_tensors
from tasks.training.models.tuned_files import find_tuned, read_method, split_task

if TYPE_CHECKING:
    import torch

PARTS = "adapters"
"""Key of the file's head: settings of the frozen adapters."""


class FusionTuned(InsertedTuned):
    """Attention over frozen adapters."""

    def train(self) -> None:
        """Let the attentions train; the adapters stay as they are."""
        super().train()
        for fusion in self.modules().values():
            fusion.adapters.requires_grad_(False)

    def penalty(self) -> "torch.Tensor":
        """regularization * sum over blocks of ||V - I||^2."""
        import torch

        values = [fusion.value.weight for fusion in self.modules().values()]
        identity = torch.eye(self.architecture.width, device=values[0].device)
        pull = torch.stack([(value - identity).square().sum() for value in values]).sum()
        return pull * float(self.settings.regularization)

    def metadata(self) -> dict[str, str]:
        """Settings of the frozen adapters, so that the folder needs none of theirs."""
        fusion = next(iter(self.modules().values()))
        return {PARTS: json.dumps([part.model_dump(mode="json") for part in fusion.parts])}


def build(architecture: Architecture, settings: AdapterFusion, folder: Path | None) -> Modules:
    """New attentions over empty adapters, of the sizes that `folder` has, or else the settings' adapters."""
    from tasks.training.methods.parts.fusion_attention import Fusion

    parts = _saved_parts(folder) if folder else [_settings_of(name) for name in settings.adapters]
    return {
        f"block_{number}_feed_forward": Inserted(
            Fusion(architecture.width, parts), behind(block.feed_forward), number
        )
        for number, block in enumerate(architecture.blocks)
    }


def _saved_parts(folder: Path) -> list[AdapterPfeiffer]:
    from safetensors import safe_open

    with safe_open(folder / WEIGHTS, framework="pt") as file:
        found = (file.metadata() or {}).get(PARTS, "[]")
    return [AdapterPfeiffer.model_validate(part) for part in json.loads(found)]


def _settings_of(name: str) -> AdapterPfeiffer:

    folder, task = find_tuned(name), split_task(name)[1]
    found = read_method(folder).method
    if not isinstance(found, AdapterPfeiffer):
        fix = "train it with method adapter_pfeiffer, then fuse"
        raise UserError(f"{name} was made by method {found.kind}", "method.adapters", fix)
    known = _tasks_of(folder) if found.per_task else ()
    if (task is not None or found.per_task) and task not in known:
        what = f"{name} names no task, and there is an adapter for each" if task is None else f"{name}: there is no adapter of task {task}"  # fmt: skip
        fix = f"write {split_task(name)[0]}#TASK; known: {', '.join(known)}" if known else "leave out #TASK"
        raise UserError(what, "method.adapters", fix)
    return found.model_copy(update={"per_task": False})


def _tasks_of(folder: Path) -> tuple[str, ...]:
    from tasks.training.methods.parts.task_adapters import saved_tasks

    return saved_tasks(read_tensors(folder / WEIGHTS))


def attach(model: Any, settings: AdapterFusion, context: TrainingContext) -> Tuned:
    """Insert the adapters, frozen, and attention over them.

    Raises:
        UserError: a folder holds no adapter_pfeiffer, or one of another base.
    """

    base_sha256 = model_sha256(context.tokenizer)
    for name in settings.adapters:
        _settings_of(name)
        if read_method(find_tuned(name)).base_sha256 != base_sha256:
            fix = "train every adapter, and the fusion, on the same base"
            raise UserError(f"{name} was trained on another base", "method.adapters", fix)
    tuned = FusionTuned(model, settings, build, context.head).begin()
    for index, name in enumerate(settings.adapters):
        _fill(tuned, index, find_tuned(name), split_task(name)[1])
    return tuned


def _fill(tuned: FusionTuned, index: int, folder: Path, task: str | None) -> None:
    """Copy one trained adapter into its place in every block."""
    from tasks.training.methods.parts.task_adapters import key_of

    inside = CONTAINER if task is None else f"{CONTAINER}.{key_of(task)}"
    tensors = read_tensors(folder / WEIGHTS)
    for key, fusion in tuned.modules().items():
        start = f"{inside}.{key}."
        own = {name.removeprefix(start): t for name, t in tensors.items() if name.startswith(start)}
        fusion.adapters[index].load_state_dict(own)


def load(model: Any, folder: Path, settings: AdapterFusion) -> Tuned:
    """Insert saved attentions and their adapters; the adapters' own folders may be gone.

    Raises:
        UserError: they do not fit the model.
    """
    return FusionTuned(model, settings, build).load(folder)
