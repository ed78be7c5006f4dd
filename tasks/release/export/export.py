"""Copy a model out of the state folder, and prove that what was copied is what was scored."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from schemas.errors import UserError
from tasks.data.labels.model_head import read_head
from tasks.data.model.folder import (
    CARD,
    PROMPT_FILE,
    TOKENIZER_FILES,
    is_tuned,
    model_files,
    model_sha256,
    require_sound,
    weight_files,
)
from tasks.data.tokens.tokenizer import encode_text
from tasks.release.export.writing import writing
from tasks.storage.atomic import follow_umask
from tasks.training.models.load import find_base, load_model, load_tuned, merged

TOLERANCE = 1e-3  # of a logit, in float32
MEAN_KL = 1e-6  # nats per token
RECIPE = "combination.json"
"""Beside a model that `rootstock combine` made."""
PROBES = ("The council met on Tuesday to", "春天来了，", "def __init__(self):", "1, 2, 3,")


def export_model(model: Path, target: Path, merge: bool, judge: Callable[[Path], str] = lambda _: "") -> str:
    """Copy the model to a new folder; with `merge`, an adapter is first merged into a float32 copy of its base.

    A 4-bit base is turned into float32 before: merged into 4 bits the update would be rounded away. The folder appears
    when all that is merged is proved equivalent, here and by `judge`, which may raise and returns what it found.

    Raises:
        UserError: the target exists, there is nothing to merge, the merged model is not equivalent, or the model is an
            adapter on an adapter and not to be merged.
    """
    if not weight_files(model):
        fix = "name a run, a promoted model, or the folder of one (rootstock history NAME lists them)"
        raise UserError(f"there is no model to export in {model}", str(model.absolute()), fix)
    adapter = is_tuned(model)
    if merge and not adapter:
        raise UserError(
            "there is nothing to merge: the model is full weights", str(model), "leave out --merge"
        )
    if not merge:
        return _copy(model, target, adapter)
    tuned = load_tuned(model)
    if not (tuned.merges or tuned.dequantizes):
        fix = "export without --merge: base and method are deployed side by side"
        raise UserError("this method leaves nothing to merge into the base's weights", str(model), fix)
    with (
        writing(target),
        tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as temporary,
    ):
        staged = Path(temporary) / "model"
        (merged(tuned, model) if tuned.merges else tuned.dequantized(model)).save_pretrained(staged)
        for name in (*TOKENIZER_FILES, PROMPT_FILE, CARD):
            if (model / name).is_file():
                shutil.copy(model / name, staged / name)
        for file in staged.iterdir():
            follow_umask(file)
        found = [_require_equivalent(model, staged), judge(staged)]
        staged.rename(target)
    return f"merged weights in {target}; " + "; ".join(filter(None, found))


def _copy(model: Path, target: Path, adapter: bool) -> str:
    """Copy a model folder whole.

    Raises:
        UserError: the copy differs, or would be of no use outside the state folder.
    """
    if adapter and is_tuned(find_base(model)):
        raise UserError(
            "the base of this adapter is itself an adapter: PEFT and transformers would put it on other weights",
            str(model),
            "add --merge: what is written then stands for itself",
        )
    copy_model(model, target)
    return f"{'adapter' if adapter else 'full weights'} copied to {target} (hashes are equal)"


def copy_model(model: Path, target: Path) -> None:
    """Copy what is read of a model folder, and what people read; nothing else that lies in it leaves.

    Raises:
        UserError: a file is a link to elsewhere, or names code; or the copy differs.
        MachineFailed: the target cannot be written.
    """
    require_sound(model)
    people = {name: model / name for name in (CARD, "LICENSE", RECIPE) if (model / name).is_file()}
    with (
        writing(target),
        tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as temporary,
    ):
        staged = Path(temporary) / "model"
        staged.mkdir()
        for name, file in {**people, **model_files(model)}.items():
            (staged / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(file, staged / name)
        if model_sha256(staged) != model_sha256(model):
            fix = "check the disk, then export again"
            raise UserError("the copy differs from the model", str(target), fix)
        staged.rename(target)


def _require_equivalent(model: Path, written: Path) -> str:
    """Compare base with method beside it to what was merged, on the probes.

    Raises:
        UserError: they differ.
    """
    difference, divergence = _compare(load_tuned(model).model.eval(), load_model(written), written)
    if difference > TOLERANCE or divergence > MEAN_KL:
        raise UserError(
            f"the merged model is not equivalent: logits differ by {difference:.2g} (allowed {TOLERANCE}),"
            f" its predictions by {divergence:.2g} nats on average (allowed {MEAN_KL})",
            str(model),
            "deploy base and adapter side by side instead",
        )
    return (
        f"against base + adapter the largest logit difference is {difference:.2g} (allowed {TOLERANCE}),"
        f" the mean KL divergence {divergence:.2g} nats (allowed {MEAN_KL})"
    )


def _compare(first: Any, second: Any, folder: Path) -> tuple[float, float]:
    """Largest difference of a logit, and mean KL(first || second) of a prediction in nats, over the probes.

    A language model predicts at each token, a head for each token or for the text.
    """
    import torch
    from torch.nn.functional import kl_div, log_softmax

    largest, divergences = 0.0, []
    for ids in encode_text(folder, PROBES, framed=read_head(folder) is not None):
        batch = torch.tensor([ids])
        with torch.inference_mode():
            logits = [
                model(input_ids=batch.to(model.device)).logits.flatten(0, -2).double().cpu()
                for model in (first, second)
            ]  # (predictions, V) each
        largest = max(largest, float((logits[0] - logits[1]).abs().max()))
        p, q = (log_softmax(values, dim=-1) for values in logits)
        divergences.append(kl_div(q, p, reduction="none", log_target=True).sum(dim=-1))  # (predictions,)
    return largest, max(0.0, float(torch.cat(divergences).mean()))
