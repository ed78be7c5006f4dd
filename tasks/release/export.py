"""Copy a model out of the state folder, and prove that what was copied is what was scored."""

import shutil
from pathlib import Path
from typing import Any

from schemas.errors import UserError
from tasks.data.prompts import PROMPT_FILE
from tasks.data.tokenize import encode_text
from tasks.training.models import TOKENIZER_FILES, load_model, model_sha256
from tasks.training.tuned import is_tuned, load_tuned

TOLERANCE = 1e-3  # of a logit, in float32
MEAN_KL = 1e-6  # nats per token
PROBES = ("The council met on Tuesday to", "春天来了，", "def __init__(self):", "1, 2, 3,")


def export_model(model: Path, target: Path, merge: bool) -> str:
    """Copy the model to a new folder; with `merge`, an adapter is first merged into a float32 copy of its base.

    A 4-bit base is turned into float32 before: merged into 4 bits the update would be rounded away.

    Raises:
        UserError: the target exists, there is nothing to merge, or the merged model is not equivalent.
    """
    if target.exists():
        raise UserError(f"{target} exists already", str(target), "name a new folder")
    if not list(model.glob("*.safetensors")):
        fix = "name a run, a promoted model, or the folder of one (rootstock history NAME lists them)"
        raise UserError(f"there is no model to export in {model}", str(model.absolute()), fix)
    adapter = is_tuned(model)
    if merge and not adapter:
        raise UserError(
            "there is nothing to merge: the model is full weights", str(model), "leave out --merge"
        )
    if not merge:
        shutil.copytree(model, target)
        if model_sha256(target) != model_sha256(model):
            shutil.rmtree(target)
            raise UserError(
                "the copy differs from the model", str(target), "check the disk, then export again"
            )
        return f"{'adapter' if adapter else 'full weights'} copied to {target} (hashes are equal)"
    tuned = load_tuned(model)
    if not (tuned.merges or tuned.dequantizes):
        fix = "export without --merge: base and method are deployed side by side"
        raise UserError("this method leaves nothing to merge into the base's weights", str(model), fix)
    merged = tuned.merge() if tuned.merges else tuned.dequantized(model)
    merged.save_pretrained(target)
    for name in (*TOKENIZER_FILES, PROMPT_FILE, "README.md"):
        if (model / name).is_file():
            shutil.copy(model / name, target / name)
    difference, divergence = _compare(load_tuned(model).model.eval(), load_model(target), target)
    if difference > TOLERANCE or divergence > MEAN_KL:
        shutil.rmtree(target)
        raise UserError(
            f"the merged model is not equivalent: logits differ by {difference:.2g} (allowed {TOLERANCE}),"
            f" its predictions by {divergence:.2g} nats per token on average (allowed {MEAN_KL})",
            str(model),
            "deploy base and adapter side by side instead",
        )
    return (
        f"merged weights in {target}; against base + adapter the largest logit difference is {difference:.2g}"
        f" (allowed {TOLERANCE}), the mean KL divergence {divergence:.2g} nats per token (allowed {MEAN_KL})"
    )


def _compare(first: Any, second: Any, tokenizer_folder: Path) -> tuple[float, float]:
    """Largest difference of a logit, and mean KL(first || second) per token in nats, over the probes."""
    import torch
    from torch.nn.functional import kl_div, log_softmax

    largest, divergences = 0.0, []
    for ids in encode_text(tokenizer_folder, PROBES):
        batch = torch.tensor([ids])
        with torch.inference_mode():
            logits = [
                model(input_ids=batch.to(model.device)).logits[0].double().cpu() for model in (first, second)
            ]  # (T, V) each
        largest = max(largest, float((logits[0] - logits[1]).abs().max()))
        p, q = (log_softmax(values, dim=-1) for values in logits)
        divergences.append(kl_div(q, p, reduction="none", log_target=True).sum(dim=-1))  # (T,)
    return largest, max(0.0, float(torch.cat(divergences).mean()))
