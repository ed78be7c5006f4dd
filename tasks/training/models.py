"""Find, hash and load models. Only safetensors are read, and no code that comes with a model is run."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from schemas.errors import UserError
from schemas.load import expand, is_hub_id
from schemas.objectives import ObjectiveKind
from tasks.data.base_head import read_head
from tasks.data.loading import library_refusal, loading
from tasks.data.model_folder import (
    CONFIGS,
    METHOD_FILE,
    PROMPT_FILE,
    TOKENIZER_FILES,
    VOCABULARY_FILES,
    is_tuned,
    model_files,
    read_config,
    require_sound,
    view,
    weight_files,
)
from tasks.storage.hashing import sha256_files
from tasks.training.quiet import silence_libraries
from tasks.training.soundness import (
    require_finite,
    require_ids_fit,
    require_no_stray,
    require_plausible,
    require_shapes,
)

__all__ = ["TOKENIZER_FILES", "VOCABULARY_FILES", "model_files", "read_config"]


def model_sha256(folder: Path) -> str:
    """sha256 over everything in a model folder that decides what it computes."""
    return sha256_files(dict(sorted(model_files(folder).items())))


def find_model(base: str) -> Path:
    """Folder of a model named by path or Hub id; a Hub model is downloaded once into the Hub's own cache.

    Raises:
        UserError: the model cannot be had, has no safetensors, or wants to run its own code; or it is a run's, and not
            the one that was judged.
    """
    from tasks.training.judged import require_judged

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


def load_model(folder: Path, dtype: Any = None, kind: ObjectiveKind | None = None) -> Any:
    """Load a model, plain or tuned, to be called (and generated with, if it is a causal language model).

    What a method can merge is merged into its base; what it cannot stays beside it, frozen.
    `dtype` defaults to float32. `kind` is the objective that the model must serve; by default whatever it serves.

    Raises:
        UserError: the weights do not fit the architecture, the base of a tuned model cannot be had, or the model
            serves another objective.
    """
    from tasks.training.heads import load_head_model
    from tasks.training.tuned import load_tuned

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
    from tasks.training.tuned import load_tuned, read_method

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
    from tasks.training.tuned import load_tuned

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
