"""Combine models tuned from one base into one model, by their differences to the base (task vectors).

Task arithmetic: Ilharco et al., 2023, https://arxiv.org/abs/2212.04089. TIES: Yadav et al., 2023,
https://arxiv.org/abs/2306.01708. DARE: Yu et al., 2024, https://arxiv.org/abs/2311.03099. The arithmetic is PEFT's
(peft.utils.merge_utils); with one model, `linear` is WiSE-FT (Wortsman et al., 2022, https://arxiv.org/abs/2109.01903).
"""

import contextlib
import hashlib
import shutil
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.errors import UserError
from tasks.data.model.folder import TOKENIZER_FILES, VOCABULARY_FILES
from tasks.release.export.combinable import ONE_BASE, Origin
from tasks.release.export.combine_recipe import Recipe
from tasks.release.export.combined_card import write_combined_card
from tasks.release.export.writing import require_new, writing
from tasks.storage.atomic import atomic_folder
from tasks.training.models.load import load_base, load_model

if TYPE_CHECKING:
    import torch

_COPIED = (*TOKENIZER_FILES, *VOCABULARY_FILES)


def combine_deltas(deltas: "list[torch.Tensor]", recipe: Recipe, name: str) -> "torch.Tensor":
    """Make one difference of several of one tensor (all of one shape, float64).

    TIES here trims every tensor by itself: PEFT keeps the int(density * n) largest of the tensor's n entries, where the
    paper takes the largest of the whole task vector. So no tensor loses all to another, but one with few entries may
    keep none. Signs are elected before the weights are applied, and the mean of those that agree is not divided by
    their weights: weights of 1 give the paper's result. DARE draws from the seed and the tensor's name, so neither
    the order of tensors nor what else is drawn matters.
    """
    import torch
    from peft.utils import merge_utils

    weights = torch.tensor(recipe.weights, dtype=deltas[0].dtype)
    if recipe.density is None:
        return merge_utils.task_arithmetic(deltas, weights)
    ways = {
        "ties": merge_utils.ties,
        "dare_linear": merge_utils.dare_linear,
        "dare_ties": merge_utils.dare_ties,
    }
    with warnings.catch_warnings(), _seeded(f"{recipe.seed}:{name}"):
        warnings.filterwarnings(
            "ignore", message="The density 1"
        )  # PEFT: nothing will be pruned, as was asked for
        return ways[recipe.how](deltas, weights, recipe.density)


@contextlib.contextmanager
def _seeded(text: str) -> Iterator[None]:
    """Let torch draw on the CPU from a seed; its own state is as before afterwards."""
    import torch

    with torch.random.fork_rng(devices=[]):
        digest = hashlib.sha256(text.encode()).digest()
        torch.default_generator.manual_seed(int.from_bytes(digest[:7], "big"))
        yield


def combine_models(base: Path, origins: Sequence[Origin], recipe: Recipe, target: Path) -> int:
    """Write the combination as a plain float32 model; return how many of its tensors differ from the base's.

    In memory are the base and one model; what the models changed waits in files beside the target. For one tensor at a
    time all its differences are held, in float64: base + (tuned - base) is then the tuned value to the last bit of
    float32. Tied tensors are combined once; tensors that no model changed are the base's.

    Raises:
        UserError: the target exists, or a model has other tensors than the base.
    """
    require_new(target)
    with _whole_or_nothing(target) as folder:
        model = load_base(base).requires_grad_(False)
        parts = folder / "changed"
        parts.mkdir()
        files = [
            _write_changed(model, origin, parts / f"{number}.safetensors")
            for number, origin in enumerate(origins)
        ]
        changed = _apply(model, files, recipe)
        shutil.rmtree(parts)
        model.config.use_cache = True
        model.save_pretrained(folder)
        _copy_tokenizer([*(origin.folder for origin in origins), base], folder)
        write_combined_card(folder, base, origins, recipe, changed)
        require_new(target)
    return changed


@contextlib.contextmanager
def _whole_or_nothing(target: Path) -> Iterator[Path]:
    with writing(target), atomic_folder(target) as folder:
        try:
            yield folder
        except BaseException:
            shutil.rmtree(folder)
            raise


def _write_changed(base: Any, origin: Origin, file: Path) -> Path:
    """Save every tensor of a tuned model that differs from the base's, as it is in the tuned model."""
    import torch
    from safetensors.torch import save_file

    tuned = dict(load_model(origin.folder).named_parameters())
    own = dict(base.named_parameters())
    odd = sorted(
        name for name in own.keys() | tuned.keys()
        if name not in own or name not in tuned or own[name].shape != tuned[name].shape
    )  # fmt: skip
    if odd:
        what = f"{origin.name} does not fit the base: {odd[0]} is not in both, or has another shape"
        raise UserError(what, str(origin.folder), ONE_BASE)
    changed = {name: t.detach().contiguous() for name, t in tuned.items() if not torch.equal(t, own[name])}
    save_file(changed, file)
    return file


def _apply(model: Any, files: Sequence[Path], recipe: Recipe) -> int:
    """Add the combined differences to the model's tensors, in place; return how many tensors changed."""
    import torch
    from safetensors import safe_open

    changed = 0
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(safe_open(file, "pt")) for file in files]
        names = [set(part.keys()) for part in opened]
        for name, parameter in model.named_parameters():
            if not any(name in known for known in names):
                continue
            start = parameter.detach().double()
            deltas = [
                part.get_tensor(name).double() - start if name in known else torch.zeros_like(start)
                for part, known in zip(opened, names, strict=True)
            ]
            result = (start + combine_deltas(deltas, recipe, name)).to(parameter.dtype)
            changed += not torch.equal(result, parameter)
            parameter.copy_(result)
    return changed


def _copy_tokenizer(sources: Sequence[Path], folder: Path) -> None:
    """Copy the tokenizer's files from the first folder that has one; all are the same (see combinable)."""
    source = next(source for source in sources if (source / "tokenizer.json").is_file())
    for name in _COPIED:
        if (source / name).is_file():
            shutil.copy(source / name, folder / name)
