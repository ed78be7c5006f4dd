"""Ways to damage a model folder, each a small change to a good one."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

Damage = Callable[[Path], None]


def edit(name: str, **changes: Any) -> Damage:
    """Set keys of a JSON file (made if it is not there); a key set to ... is removed."""

    def damage(folder: Path) -> None:
        file = folder / name
        value = json.loads(file.read_text()) if file.is_file() else {}
        value |= changes
        file.write_text(json.dumps({key: one for key, one in value.items() if one is not ...}))

    return damage


def text(name: str, content: str | bytes) -> Damage:
    """Write a file."""

    def damage(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        data = content.encode() if isinstance(content, str) else content
        (folder / name).unlink(missing_ok=True)
        (folder / name).write_bytes(data)

    return damage


def gone(name: str) -> Damage:
    return lambda folder: (folder / name).unlink()


def both(*damages: Damage) -> Damage:
    def damage(folder: Path) -> None:
        for one in damages:
            one(folder)

    return damage


def number_in(name: str, tensor: str, value: float) -> Damage:
    """Put one number into a tensor."""

    def damage(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        tensors = load_file(folder / name)
        chosen = next(key for key in tensors if tensor in key)
        tensors[chosen].view(-1)[3] = value
        save_file(tensors, folder / name, metadata={"format": "pt"})

    return damage


def instead(name: str, make: Callable[[Path], None]) -> Damage:
    """Put something that is no file in a file's place."""

    def damage(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        make(folder / name)

    return damage


def moved_out(name: str) -> Damage:
    """Leave a link to a file outside the folder."""

    def damage(folder: Path) -> None:
        outside = folder.parent / f"outside {folder.name} {name}"
        (folder / name).rename(outside)
        (folder / name).symlink_to(outside)

    return damage


def indexed(names: Any) -> Damage:
    """Let an index name the weights; the weights themselves become `a.safetensors`."""

    def damage(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "a.safetensors")
        (folder / "model.safetensors.index.json").write_text(json.dumps(names))

    return damage


def pickle(name: str) -> Damage:
    """A pickle that leaves the file `ran` when it is opened."""

    def damage(folder: Path) -> None:
        (folder / name).write_bytes(f"cposix\nsystem\n(S'touch {folder / 'ran'}'\ntR.".encode())

    return damage


DEEP = "[" * 60_000 + "]" * 60_000


def token_beyond(folder: Path) -> None:
    """Give the tokenizer a token for which there is no embedding."""
    file = folder / "tokenizer.json"
    value = json.loads(file.read_text())
    value["model"]["vocab"]["evil"] = 99_999
    file.write_text(json.dumps(value))


HEADER = {
    "too long": (2**60).to_bytes(8, "little") + b"{}",
    "no JSON": (4).to_bytes(8, "little") + b"nope",
    "beyond the file": (62).to_bytes(8, "little")
    + b'{"a":{"dtype":"F32","shape":[9999999],"data_offsets":[0,9]}}  ',
    "empty": b"",
}
EVIL = {"auto_map": {"AutoModelForCausalLM": "evil.Model"}}

CONFIG = "config.json"


def cast(name: str, dtype: str) -> Damage:
    def apply(folder: Path) -> None:
        import torch
        from safetensors.torch import load_file, save_file

        tensors = load_file(folder / name)
        save_file(
            {key: value.to(getattr(torch, dtype)) for key, value in tensors.items()},
            folder / name,
            {"format": "pt"},
        )

    return apply


GIVES_UP = {"type": "Split", "pattern": {"Regex": "(x+x+)+y"}, "behavior": "Isolated", "invert": False}
"""A pattern that takes for ever where many x stand together."""
GROWS = {"type": "Replace", "pattern": {"String": "x"}, "content": "x" * 100}
BASE_REFUSED: dict[str, Damage] = {
    "tokenizer that grows": edit("tokenizer.json", normalizer={"type": "Sequence", "normalizers": [GROWS] * 4}),
    "epsilon no number": edit(CONFIG, rms_norm_eps=float("nan")),
    "weights integers": cast("model.safetensors", "int32"),
    "weights yes and no": cast("model.safetensors", "bool"),
    "config is no JSON": text(CONFIG, "{"),
    "config is a list": text(CONFIG, "[]"),
    "config is deep": text(CONFIG, '{"a":' + DEEP + "}"),
    "config is gone": gone(CONFIG),
    "auto_map inside": edit(CONFIG, text_config=EVIL),
    "auto_map of the tokenizer": edit("tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.T", None]}),
    "model_type unknown": edit(CONFIG, model_type="evil"),
    "model_type a number": edit(CONFIG, model_type=3),
    "one layer less": edit(CONFIG, num_hidden_layers=1),
    "no layers": edit(CONFIG, num_hidden_layers=0),
    "layers below zero": edit(CONFIG, num_hidden_layers=-1),
    "a billion layers": edit(CONFIG, num_hidden_layers=10**9),
    "layers in words": edit(CONFIG, num_hidden_layers="two"),
    "small vocabulary": edit(CONFIG, vocab_size=10),
    "vast vocabulary": edit(CONFIG, vocab_size=10**10),
    "vocabulary below zero": edit(CONFIG, vocab_size=-5),
    "another width": edit(CONFIG, hidden_size=18),
    "a wider layer": edit(CONFIG, intermediate_size=64),
    "no heads": edit(CONFIG, num_attention_heads=0),
    "dtype of nothing": edit(CONFIG, dtype="evil"),
    "activation of nothing": edit(CONFIG, hidden_act="evil"),
    "gptq": edit(CONFIG, quantization_config={"quant_method": "gptq", "bits": 4}),
    "awq": edit(CONFIG, quantization_config={"quant_method": "awq", "bits": 4}),
    "compressed-tensors": edit(CONFIG, quantization_config={"quant_method": "compressed-tensors"}),
    "fp8": edit(CONFIG, quantization_config={"quant_method": "fp8"}),
    "unknown quantisation": edit(CONFIG, quantization_config={"quant_method": "evil"}),
    "quantisation a text": edit(CONFIG, quantization_config="4 bits"),
    "weights named outside": edit(CONFIG, transformers_weights="../a.safetensors"),
    "weights named a pickle": both(
        gone("model.safetensors"), edit(CONFIG, transformers_weights="adapter_model.bin"), pickle("adapter_model.bin")
    ),
    **{
        f"safetensors {what}": text("model.safetensors", content) for what, content in HEADER.items()
    },
    "NaN": number_in("model.safetensors", "layers.1.mlp", float("nan")),
    "infinite": number_in("model.safetensors", "embed_tokens", float("inf")),
    "weights a folder": instead("model.safetensors", Path.mkdir),
    "config a FIFO": instead(CONFIG, os.mkfifo),
    "config a link to nothing": instead(CONFIG, lambda file: file.symlink_to("nowhere")),
    "weights elsewhere": moved_out("model.safetensors"),
    "tokenizer elsewhere": moved_out("tokenizer.json"),
    "index of a pickle": both(
        indexed({"metadata": {}, "weight_map": {"a": "pytorch_model.bin"}}), pickle("pytorch_model.bin")
    ),
    "index outside": indexed({"weight_map": {"a": "../a.safetensors"}}),
    "index absolute": indexed({"weight_map": {"a": "/etc/passwd"}}),
    "index of a missing shard": indexed({"weight_map": {"a": "b.safetensors"}}),
    "index without a map": indexed({}),
    "index a list": indexed([]),
    "index of a list": indexed({"weight_map": ["a.safetensors"]}),
    "tokenizer no JSON": text("tokenizer.json", "{"),
    "tokenizer empty": text("tokenizer.json", "{}"),
    "tokenizer deep": text("tokenizer.json", '{"model":' + DEEP + "}"),
    "tokenizer gone": gone("tokenizer.json"),
    "a token beyond the embedding": token_beyond,
    "tokenizer settings a list": text("tokenizer_config.json", "[]"),
    "tokenizer settings no JSON": text("tokenizer_config.json", "{"),
    "eos a number": edit("tokenizer_config.json", eos_token=3),
    "added tokens a list": text("added_tokens.json", "[1]"),
    "special tokens a list": text("special_tokens_map.json", "[1]"),
    "generation a list": text("generation_config.json", "[]"),
    "generation no JSON": text("generation_config.json", "{"),
    "generation of its own": edit("generation_config.json", custom_generate="evil/repo"),
    "eos in words": edit("generation_config.json", eos_token_id="stop"),
    "frame odd": text("prompt.json", '{"template": "plain"}'),
    "frame a list": text("prompt.json", "[]"),
}  # fmt: skip
"""Refused by every command that uses a base or a model."""

BASE_HARMLESS: dict[str, Damage] = {
    "attention of the Hub": edit(CONFIG, _attn_implementation="evil/kernel"),
    "attention inside": edit(CONFIG, attn_implementation="evil/kernel:f", _attn_implementation_internal="e/k"),
    "experts of the Hub": edit(CONFIG, experts_implementation="evil/kernel"),
    "fusions": edit(CONFIG, fusion_config={"evil": True}, _commit_hash="abc"),
    "a pickle beside": pickle("pytorch_model.bin"),
    "a module": text("modeling_evil.py", "raise SystemExit('ran')"),
    "a way to generate": text("custom_generate/generate.py", "raise SystemExit('ran')"),
    "templates in a folder": text("additional_chat_templates/a.jinja", "{{ 'a' * 10**10 }}"),
    "a hostile template": text("chat_template.jinja", "{% for a in range(99999) %}{% for b in range(99999) %}a{% endfor %}{% endfor %}"),
    "a stale shard": text("model-00002-of-00002.safetensors", b"no weights"),
    "an index that is not read": text("model.safetensors.index.json", '{"weight_map": {"a": "pytorch_model.bin"}}'),
    "beams": edit("generation_config.json", num_beams=4, num_beam_groups=2),
    "a way from the Hub": edit("generation_config.json", penalty_alpha=0.6, dola_layers="low"),
    "a cache": edit("generation_config.json", cache_implementation="quantized", compile_config={"backend": "evil"}),
    "an unknown class of tokenizer": edit("tokenizer_config.json", tokenizer_class="EvilTokenizer"),
    "one shard": indexed({"metadata": {}, "weight_map": {"a": "a.safetensors"}}),
}  # fmt: skip
"""What is not read, or chooses what we choose: the model answers as it did."""

METHOD_REFUSED: dict[str, Damage] = {
    "no JSON": text("method.json", "{"),
    "a list": text("method.json", "[]"),
    "base itself": lambda folder: edit("method.json", base=str(folder))(folder),
    "another base": edit("method.json", base_sha256="0" * 64),
    "no base": edit("method.json", base="/nowhere"),
    "method unknown": edit("method.json", method={"kind": "evil"}),
    "method that stores all": edit("method.json", method={"kind": "full"}),
    "weights gone": gone("deltas.safetensors"),
    "weights no safetensors": text("deltas.safetensors", HEADER["no JSON"]),
    "NaN": number_in("deltas.safetensors", ".values", float("nan")),
    "index before the first": number_in("deltas.safetensors", ".indices", -(10**6)),
    "values without indices": lambda folder: _without(folder, ".indices"),
    "indices without values": lambda folder: _without(folder, ".values"),
}
"""Of a model that method `sparse` made."""


def _without(folder: Path, end: str) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "deltas.safetensors")
    del tensors[next(name for name in tensors if name.endswith(end))]
    save_file(tensors, folder / "deltas.safetensors", metadata={"format": "pt"})


ADAPTER = "adapter_config.json"
ADAPTER_REFUSED: dict[str, Damage] = {
    "no JSON": text(ADAPTER, "{"),
    "a list": text(ADAPTER, "[]"),
    "r zero": edit(ADAPTER, r=0),
    "r below zero": edit(ADAPTER, r=-4),
    "r in words": edit(ADAPTER, r="four"),
    "r vast": edit(ADAPTER, r=10**9),
    "r another": edit(ADAPTER, r=8),
    "no peft_type": edit(ADAPTER, peft_type=...),
    "peft_type unknown": edit(ADAPTER, peft_type="EVIL"),
    "peft_type a number": edit(ADAPTER, peft_type=3),
    "peft_type another": edit(ADAPTER, peft_type="IA3"),
    "no base": edit(ADAPTER, base_model_name_or_path=...),
    "base a number": edit(ADAPTER, base_model_name_or_path=3),
    "base nowhere": edit(ADAPTER, base_model_name_or_path="/nowhere/base"),
    "base on the Hub": edit(ADAPTER, base_model_name_or_path="evil/base"),
    "base itself": lambda folder: edit(ADAPTER, base_model_name_or_path=str(folder))(folder),
    "modules of nothing": edit(ADAPTER, target_modules=["evil"]),
    "a module of Megatron": edit(ADAPTER, megatron_config={"a": 1}, megatron_core="evil"),
    "a pickle of CorDA": edit(ADAPTER, init_lora_weights="corda", corda_config={"cache_file": "evil.pt"}),
    "its own code": edit(ADAPTER, auto_map={"A": "evil.A"}),
    "NaN": number_in("adapter_model.safetensors", "lora_A", float("nan")),
    "weights gone": gone("adapter_model.safetensors"),
    "a pickle instead": both(gone("adapter_model.safetensors"), pickle("adapter_model.bin")),
    "weights no safetensors": text("adapter_model.safetensors", HEADER["no JSON"]),
    "weights elsewhere": moved_out("adapter_model.safetensors"),
}  # fmt: skip
