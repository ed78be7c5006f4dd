"""Load models to be called or trained, plain or tuned, with a head or without."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from schemas.errors import UserError
from schemas.spec.objectives import ObjectiveKind
from tasks.data.labels.model_head import read_head
from tasks.data.model.folder import METHOD_FILE, is_tuned, model_sha256, require_sound
from tasks.data.model.loading import library_refusal, loading
from tasks.training.methods.parts.peft_backed import load_peft
from tasks.training.methods.registry import METHODS
from tasks.training.models.heads import Head, WithHead, fit_head, head_of, load_head_model, load_plain_head
from tasks.training.models.soundness import require_ids_fit
from tasks.training.models.tuned_files import base_of, read_method
from tasks.training.models.weights import find_model, load_plain


def load_model(folder: Path, dtype: Any = None, kind: ObjectiveKind | None = None) -> Any:
    """Load a model, plain or tuned, to be called (and generated with, if it is a causal language model).

    What a method can merge is merged into its base; what it cannot stays beside it, frozen.
    `dtype` defaults to float32. `kind` is the objective that the model must serve; by default whatever it serves.

    Raises:
        UserError: the weights do not fit the architecture, the base of a tuned model cannot be had, or the model
            serves another objective.
    """
    serves = require_kind(folder, kind)
    if not is_tuned(folder):
        return load_plain(folder, dtype) if serves == "language_modeling" else load_head_model(folder, dtype)
    tuned = load_tuned(folder, dtype)
    model = merged(tuned, folder) if tuned.merges else tuned.model
    model.requires_grad_(False)
    return model.eval()


def load_for_tasks(
    folder: Path, dtype: Any = None, kind: ObjectiveKind | None = None
) -> tuple[Any, Callable[[str], None]]:
    """Load a model and what tells it which of its tasks comes next, where a task has modules of its own.

    Raises:
        UserError: see load_model.
    """
    if not (folder / METHOD_FILE).is_file() or not read_method(folder).method.has_task_modules:
        return load_model(folder, dtype, kind), lambda _: None
    require_kind(folder, kind)
    tuned = load_tuned(folder, dtype)
    tuned.model.requires_grad_(False)
    return tuned.model.eval(), tuned.use_task


def require_kind(folder: Path, kind: ObjectiveKind | None) -> ObjectiveKind:
    """What a model serves; it must be `kind`, if given.

    Raises:
        UserError: it serves another objective.
    """
    head = read_head(folder)
    serves = head[0] if head is not None else "language_modeling"
    if kind is not None and serves != kind:
        fix = "name a model that was trained for it, or change the objective"
        raise UserError(f"this is a model for {serves}, not for {kind}", str(folder), fix)
    return serves


def load_base(folder: Path, dtype: Any = None, settings: Mapping[str, Any] | None = None) -> Any:
    """Load the model that a method is to be put on; it may itself be tuned, if that can be merged.

    `settings` are further arguments of from_pretrained (quantisation), which only a plain model can take.

    Raises:
        UserError: the model is tuned in a way that leaves no plain weights.
    """

    if not is_tuned(folder):
        return load_plain(folder, dtype, **(settings or {}))
    if settings:
        fix = "merge it first: rootstock export RUN --merge --to FOLDER, and name that folder as base"
        raise UserError("a base that is itself an adapter cannot be loaded quantised", str(folder), fix)
    tuned = load_tuned(folder, dtype)
    if not tuned.merges:
        fix = "start from a full model, or from one whose method can be merged (rootstock methods)"
        raise UserError(
            "the base is a tuned model that cannot be merged into plain weights", str(folder), fix
        )
    return merged(tuned, folder)


def merged(tuned: Any, folder: Path) -> Any:
    """The model with the method's update in its own weights.

    Raises:
        UserError: PEFT cannot merge it into such a base.
    """
    fix = "use base and adapter side by side, or a base in 16 or 32 bits"
    with library_refusal("the method cannot be merged into its base", folder, fix):
        return tuned.merge()


FIX = "load it on the base it was trained on; if it was copied, fetch it again"


def find_base(folder: Path) -> Path:
    """Folder of a tuned model's base. A base in the same state folder is found wherever that was moved to.

    Raises:
        UserError: it cannot be had.
    """

    seen: set[Path] = set()
    above = folder
    while is_tuned(above):
        if above.resolve() in seen:
            fix = "name the model that each of them was trained on"
            raise UserError("the base of this adapter is, in the end, itself", str(folder), fix)
        seen.add(above.resolve())
        above = find_model(_base_name(above))
    return find_model(_base_name(folder))


def _base_name(folder: Path) -> str:
    """What `base_of` says, or where that lies since the state folder was moved."""
    named = base_of(folder)
    *_, kind, run, model = ("", "", "", *Path(named).parts)
    if kind == "runs" and not Path(named).is_dir():
        moved = folder.absolute().parents[2] / kind / run / model
        if moved.is_dir():
            named = str(moved)
    return named


def load_tuned(folder: Path, dtype: Any = None) -> Any:
    """Load the base and put the method on it; return a methods.base.Tuned.

    Raises:
        UserError: the base cannot be had, is not the one that was tuned, or does not fit.
    """

    base = find_base(folder)
    if not (folder / METHOD_FILE).is_file():
        return load_peft(load_base(base, dtype), folder)
    saved = read_method(folder)
    entry = METHODS[saved.method.kind]
    if saved.method.replaces_base:
        what = f"method.json names {saved.method.kind}, which stores whole weights: what lies here would not be used"
        raise UserError(what, str(folder / METHOD_FILE), "export the run again")
    if model_sha256(base) != saved.base_sha256:
        raise UserError(
            f"the base {saved.base} is not the model that was tuned: its files have changed",
            str(folder / METHOD_FILE),
            "bring the old base back, or tune the new one",
        )
    settings = entry.base_settings(saved.method) if entry.base_settings else None
    head = head_of(folder)
    require_sound(folder)
    model = (
        load_base(base, dtype, settings)
        if head is None
        else load_with_head(base, head, dtype, 0, settings).model
    )
    with loading("cannot put the method on its base", folder, FIX):
        tuned = entry.load(model, folder, saved.method)
    require_ids_fit(tuned.model, folder)
    return tuned


def load_with_head(
    folder: Path, head: Head, dtype: Any, seed: int, settings: Mapping[str, Any] | None = None
) -> WithHead:
    """Load a base, with or without a head, and give it this head.

    Raises:
        UserError: the weights do not fit, or the base is an adapter that no head can be put on.
    """
    import torch

    known = read_head(folder)
    has_head = known is not None and known[0] == head.kind
    missing: list[str] = []
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if is_tuned(folder):
            if not has_head:
                fix = "merge it first: rootstock export RUN --merge --to FOLDER, and name that folder as base"
                raise UserError("a new head cannot be put on an adapter", str(folder), fix)
            model = load_base(folder, dtype, settings)
        else:
            names = known[1] if known is not None and has_head else head.names
            model, missing = load_plain_head(folder, replace(head, names=names), dtype, settings)
        fit_head(model, head)
    prefix = model.base_model_prefix
    new = [
        name
        for name, part in model.named_children()
        if name != prefix and any(True for _ in part.parameters())
    ]
    if any(".pooler." in name for name in missing):
        new.append("pooler")
    return WithHead(model, tuple(new), fresh=not has_head)
