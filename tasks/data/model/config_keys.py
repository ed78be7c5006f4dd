"""Keys of a model's JSON files that choose code: left out of what a library sees, or the model is refused."""

from pathlib import Path
from typing import Any

from schemas.errors import UserError

# Keys that name code of the folder's own: such a model would compute otherwise without it, so it is refused.
_CODE = ("auto_map", "custom_generate", "custom_pipelines")
# Keys that choose among implementations, kernels of the Hub or caches: we choose, so they are left out of a view.
_CHOICES = {
    "attn_implementation", "_attn_implementation", "_attn_implementation_internal", "_attn_implementation_autoset",
    "experts_implementation", "_experts_implementation", "_experts_implementation_internal", "fusion_config",
    "kernel_config", "use_kernels", "distributed_config", "_commit_hash", "_name_or_path", "name_or_path",
    "auto_mapping",
}  # fmt: skip
# Ways of generating that `rootstock generate` does not use; some fetch code from the Hub, some need other packages.
_GENERATION_CHOICES = {
    "compile_config", "cache_implementation", "cache_config", "continuous_batching_config", "use_mtp",
    "speculation_type", "prompt_lookup_num_tokens", "assistant_early_exit", "num_beams", "num_beam_groups",
    "penalty_alpha", "dola_layers", "constraints", "force_words_ids", "low_memory", "watermarking_config",
    "stop_strings", "token_healing", "num_return_sequences", "return_dict_in_generate",
}  # fmt: skip
_QUANTIZED_BY = ("bitsandbytes",)


def without_choices(config: dict[str, Any], file: Path) -> dict[str, Any]:
    """A configuration without the keys that choose code.

    Raises:
        UserError: it names code of its own, or a quantisation that is not here.
    """
    choices = _CHOICES | (_GENERATION_CHOICES if file.name == "generation_config.json" else set())
    try:
        kept: dict[str, Any] = _walk(config, file, choices)
    except RecursionError:
        what = "the model's configuration is nested too deeply"
        raise UserError(what, str(file), "fetch the model again") from None
    if file.name == "adapter_config.json":
        _require_plain_adapter(kept, file)
    return kept


def _walk(value: Any, file: Path, choices: set[str]) -> Any:
    if isinstance(value, list):
        return [_walk(item, file, choices) for item in value]
    if not isinstance(value, dict):
        return value
    for key in _CODE:
        if value.get(key):
            raise UserError(
                f"the model wants to run its own code ({key} in {file.name})",
                str(file),
                "use a model that transformers knows; remote code is never run",
            )
    if file.name == "config.json" and value.get("quantization_config") is not None:
        _require_known_quantization(value["quantization_config"], file)
    return {key: _walk(item, file, choices) for key, item in value.items() if key not in choices}


def _require_known_quantization(config: Any, file: Path) -> None:
    told = config if isinstance(config, dict) else {}
    method = told.get("quant_method")
    if method is None and (told.get("load_in_4bit") or told.get("load_in_8bit")):
        return
    if method not in _QUANTIZED_BY:
        name = f"by {str(method)[:40]}" if method is not None else "in a way that it does not name"
        raise UserError(
            f"the model is quantised {name}, which is not supported",
            f"{file}: quantization_config",
            f"name the model in 16 or 32 bits (known: {', '.join(_QUANTIZED_BY)})",
        )


# Keys with which an adapter's configuration names a module, a pickle or a model elsewhere.
_ADAPTER_CODE = (
    "megatron_config", "corda_config", "lora_ga_config", "tokenizer_kwargs", "prompt_tuning_init_state_dict_path",
    "shadow_model", "adapters", "arrow_config",
)  # fmt: skip


def _require_plain_adapter(config: dict[str, Any], file: Path) -> None:
    for key in _ADAPTER_CODE:
        if config.get(key):
            what = f"the adapter wants code or files from elsewhere ({key} in {file.name})"
            raise UserError(
                what, str(file), "take the key out; what is in adapter_model.safetensors is loaded"
            )
    for key, value in config.items():
        if isinstance(value, int) and abs(value) > 2**24:
            what = f"{key} of the adapter is {value}"
            raise UserError(what, str(file), "fetch the adapter again")
