"""Find models and read their weights. Only safetensors are read, and no code that comes with a model is run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from schemas.errors import UserError
from schemas.reading.load import expand, is_hub_id
from tasks.data.model.folder import (
    CONFIGS,
    PROMPT_FILE,
    TOKENIZER_FILES,
    VOCABULARY_FILES,
    require_sound,
    view,
    weight_files,
)
from tasks.data.model.loading import loading
from tasks.training.models.judged import require_judged
from tasks.training.models.quiet import silence_libraries
from tasks.training.models.soundness import (
    require_finite,
    require_ids_fit,
    require_no_stray,
    require_plausible,
    require_shapes,
)


def find_model(base: str) -> Path:
    """Folder of a model named by path or Hub id; a Hub model is downloaded once into the Hub's own cache.

    Raises:
        UserError: the model cannot be had, has no safetensors, or wants to run its own code; or it is a run's, and not
            the one that was judged.
    """

    try:
        folder = _download(base) if is_hub_id(base) else Path(expand(base))
    except KeyError as error:
        what = f"{base} names the environment variable {error.args[0]}, which is not set"
        raise UserError(what, "the model", f"run: export {error.args[0]}=...") from None
    if not folder.is_dir():
        fix = "name a folder that holds a transformers model, or a Hub id such as Qwen/Qwen3-0.6B"
        where = base if "$" in base else str(folder.absolute())  # a variable may be a secret
        raise UserError(f"there is no model folder {base}", where, fix)
    require_judged(folder)
    require_sound(folder)
    if not weight_files(folder):
        raise UserError(
            f"the model {base} has no safetensors weights",
            str(folder),
            "convert it once with save_pretrained(..., safe_serialization=True); pickled weights are never loaded",
        )
    return folder


def _download(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    patterns = ["*.safetensors", "*.safetensors.index.json", PROMPT_FILE, *CONFIGS, *TOKENIZER_FILES, *VOCABULARY_FILES]  # fmt: skip
    try:
        return Path(snapshot_download(hub_id, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(
            f"cannot get the model {hub_id} from the Hub ({type(error).__name__})",
            hub_id,
            "check the name, the network and HF_TOKEN, or name a local folder",
        ) from None


def load_plain(folder: Path, dtype: Any = None, **settings: Any) -> Any:
    """Load full weights; see load_model."""
    from transformers import AutoModelForCausalLM

    fix = "name the complete folder of a causal language model; if it was copied, fetch it again"
    model, missing = read_weights(AutoModelForCausalLM, folder, dtype, settings, fix)
    require_none(missing, folder, fix)
    return model


def read_weights(
    kind: Any, folder: Path, dtype: Any, settings: Mapping[str, Any], fix: str
) -> tuple[Any, list[str]]:
    """A model of one of transformers' Auto classes, and the names of the weights that the folder does not have.

    Raises:
        UserError: the folder does not hold such a model; `fix` says what to name instead.
    """
    import torch

    silence_libraries()  # what they find is told below
    require_plausible(folder, fix)
    with view(folder) as shown, loading("cannot load the model", folder, fix, shown):
        model, report = kind.from_pretrained(
            shown,
            dtype=dtype or torch.float32,
            attn_implementation="sdpa",
            trust_remote_code=False,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # told below with their shapes
            **settings,
        )
    model.config._name_or_path = model.name_or_path = str(folder)
    require_shapes(report["mismatched_keys"], folder, fix)
    require_no_stray(model, report["unexpected_keys"], folder, fix)
    require_finite(model.named_parameters(), folder)
    require_ids_fit(model, folder)
    for module in model.modules():
        # bitsandbytes repacks 4-bit weights for CPUs with AVX512-BF16 in the first forward pass without gradients,
        # to a layout that rounds the scales and through which no gradient flows
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model, sorted(report["missing_keys"])


def require_none(missing: Sequence[str], folder: Path, fix: str) -> None:
    """Stop if weights are missing from the folder: they would be random.

    Raises:
        UserError: some are.
    """
    if missing:
        what = f"{len(missing)} weights are missing from the model, the first is {missing[0]}"
        raise UserError(what, str(folder), fix)
